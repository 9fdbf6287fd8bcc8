//! Ways, the legality table and the costs.

use dual16_nash::cost::{Unit, cost};
use dual16_nash::legality::{RULES, Rules};
use dual16_nash::{GemmShape, IntDtype, March, Toolchain, Way};

#[test]
fn names_round_trip() {
    for way in Way::ALL {
        assert_eq!(way.to_string().parse::<Way>(), Ok(way));
    }
    for dtype in IntDtype::ALL {
        assert_eq!(dtype.to_string().parse::<IntDtype>(), Ok(dtype));
    }
    for march in March::ALL {
        assert_eq!(march.to_string().parse::<March>(), Ok(march));
    }
    for toolchain in Toolchain::ALL {
        assert_eq!(toolchain.to_string().parse::<Toolchain>(), Ok(toolchain));
    }
    let error = "a4w4".parse::<Way>().unwrap_err().to_string();
    assert_eq!(
        error,
        "unknown way \"a4w4\", expected one of a8w8, a16w8, a8w16, mul_sum, split, a16w16"
    );
}

#[test]
fn the_table_has_one_row_for_each_pair() {
    for march in March::ALL {
        for toolchain in Toolchain::ALL {
            let rows = RULES
                .iter()
                .filter(|r| r.march == march && r.toolchain == toolchain)
                .count();
            assert_eq!(rows, 1, "{march} {toolchain}");
            let rules = Rules::of(march, toolchain);
            assert_eq!((rules.march, rules.toolchain), (march, toolchain));
        }
    }
}

#[test]
fn dual_int16_needs_oe_3_2() {
    for march in March::ALL {
        let before = Rules::of(march, Toolchain::Oe31);
        let legal: Vec<Way> = before.legal_ways().collect();
        assert_eq!(
            legal,
            [Way::A8W8, Way::A16W8, Way::A8W16, Way::MulSum, Way::Split]
        );
        assert_eq!(before.max_int16_gemm_operands, 1);
        let verdict = before.check(Way::A16W16);
        assert!(!verdict.legal);
        for word in [
            "a16w16",
            "at most one int16 operand",
            "a8w8, a16w8, a8w16, mul_sum, split",
        ] {
            assert!(verdict.reason.contains(word), "{}", verdict.reason);
        }
        assert!(before.check(Way::Split).legal);

        let after = Rules::of(march, Toolchain::Oe32);
        assert_eq!(after.legal_ways().collect::<Vec<_>>(), Way::ALL);
        assert!(after.check(Way::A16W16).reason.is_empty());
    }
}

#[test]
fn dtypes_follow_the_name() {
    let dtypes = |way: Way| (way.activation_dtype(), way.weight_dtype());
    assert_eq!(dtypes(Way::A8W8), (IntDtype::Int8, IntDtype::Int8));
    assert_eq!(dtypes(Way::A16W8), (IntDtype::Int16, IntDtype::Int8));
    assert_eq!(dtypes(Way::A8W16), (IntDtype::Int8, IntDtype::Int16));
    assert_eq!(dtypes(Way::MulSum), (IntDtype::Int16, IntDtype::Int16));
    assert_eq!(dtypes(Way::Split), (IntDtype::Int16, IntDtype::Int8));
    assert_eq!(dtypes(Way::A16W16), (IntDtype::Int16, IntDtype::Int16));
    assert!(!Way::FIVE.contains(&Way::A8W8));
    assert!(!Way::MulSum.weight_per_channel());
    assert!(!Way::A16W16.can_keep_high_precision());
}

/// The article's linear2 over 200 rows: 3,072,000 products.
#[test]
fn costs_count_macs() {
    let shape = GemmShape {
        n: 200,
        k: 256,
        o: 60,
    };
    assert_eq!(cost(Way::A16W8, shape).macs, 3_072_000);
    assert_eq!(cost(Way::Split, shape).macs, 6_144_000);
    let mul_sum = cost(Way::MulSum, shape);
    assert_eq!((mul_sum.macs, mul_sum.unit), (3_072_000, Unit::Vector));
    assert_eq!(mul_sum.product_bytes, 6_144_000);
    let huge = GemmShape {
        n: usize::MAX,
        k: usize::MAX,
        o: 2,
    };
    assert_eq!(cost(Way::Split, huge).macs, u64::MAX);
}
