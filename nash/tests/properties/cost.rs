//! Works, chips and the times that follow.

use dual16_nash::{
    GemmShape, IntDtype, March, Way,
    cost::{Bound, Chip, Estimate, Key, LinearSite, Macs, Work},
};

/// A Linear inside a model of int16 activations, all of which stay on the chip.
fn site(k: usize, o: usize) -> LinearSite {
    LinearSite {
        shape: GemmShape { n: 200, k, o },
        input: Some(IntDtype::Int16),
        bias: true,
        loads_input: false,
        stores_output: false,
        output_bytes: 2,
        on_chip_bytes: 2 << 20,
    }
}

fn latency(site: &LinearSite, way: Way, chip: &Chip) -> f64 {
    Estimate::of(&site.work(way), chip).latency_us
}

/// The order of the article for each Linear of its model, and where the other ways stand.
#[test]
fn the_ways_of_the_articles_layers_are_in_the_articles_order() {
    for march in March::ALL {
        let chip = Chip::of(march).unwrap();
        for (k, o) in [(256, 256), (256, 60), (60, 60)] {
            let us = |way| latency(&site(k, o), way, &chip);
            let order = [Way::A16W8, Way::A16W16, Way::Split, Way::A8W16, Way::MulSum];
            for pair in order.windows(2) {
                let (a, b) = (us(pair[0]), us(pair[1]));
                assert!(a < b, "{march} {o}x{k}: {} {a}, {} {b}", pair[0], pair[1]);
            }
        }
    }
}

#[test]
fn macs_lie_in_the_toolchains_bucket_and_mul_sum_has_none() {
    let count = 200 * 256 * 60;
    let of = |way| site(256, 60).work(way).macs;
    let expected = |feature, weight| Macs::of(feature, weight, count);
    use IntDtype::{Int8, Int16};
    assert_eq!(of(Way::A8W8), expected(Int8, Int8));
    assert_eq!(of(Way::A16W8), expected(Int16, Int8));
    assert_eq!(of(Way::A8W16), expected(Int8, Int16));
    assert_eq!(of(Way::A16W16), expected(Int16, Int16));
    assert_eq!(of(Way::Split).feature_int16_weight_int8, 2 * count);
    assert_eq!(of(Way::MulSum), Macs::default());
    let products = site(256, 60).work(Way::MulSum);
    assert_eq!(products.vector.int16, 2 * count + 200 * 60);
    // 6.1 MB of products do not stay on a chip that keeps 2 MiB; those of 60 x 60 do.
    assert_eq!(products.stored_bytes, 2 * count);
    assert_eq!(site(60, 60).work(Way::MulSum).stored_bytes, 0);
}

#[test]
fn only_an_input_of_the_other_format_is_requantized() {
    let mut site = site(256, 60);
    assert_eq!(site.work(Way::A16W8).requantized_bytes, 0);
    assert_eq!(site.work(Way::A8W16).requantized_bytes, 200 * 256 * 3);
    site.input = Some(IntDtype::Int8);
    assert_eq!(site.work(Way::A8W16).requantized_bytes, 0);
    site.input = None;
    assert_eq!(site.work(Way::A16W8).requantized_bytes, 0);
}

#[test]
fn what_takes_longest_is_what_bounds() {
    let chip = Chip::of(March::NashM).unwrap();
    let bound = |work: Work| Estimate::of(&work, &chip).bound;
    assert_eq!(bound(Work::default()), Bound::Launch);
    let memory = Work {
        loaded_bytes: 1 << 30,
        macs: Macs::of(IntDtype::Int8, IntDtype::Int8, 1 << 20),
        ..Work::default()
    };
    assert_eq!(bound(memory), Bound::Memory);
    let matrix = Work {
        loaded_bytes: 1 << 10,
        macs: Macs::of(IntDtype::Int8, IntDtype::Int8, 1 << 40),
        ..Work::default()
    };
    assert_eq!(bound(matrix), Bound::Matrix);
    assert_eq!(
        bound(Work::requantize(IntDtype::Int16, IntDtype::Int8, 1 << 20)),
        Bound::Requantize
    );
    // 32 * 10^12 int8 multiply-accumulates a second at half of 128 TOPS.
    let second = Work {
        macs: Macs::of(IntDtype::Int8, IntDtype::Int8, 32_000_000_000_000),
        ..Work::default()
    };
    assert!((Estimate::of(&second, &chip).compute_us - 1e6).abs() < 1e-3);
}

#[test]
fn every_parameter_says_whether_it_is_public_or_assumed() {
    for march in March::ALL {
        let chip = Chip::of(march).unwrap();
        assert_eq!(chip.parameters().count(), Key::ALL.len());
        for (key, parameter) in chip.parameters() {
            let known = ["public", "assumption"];
            assert!(
                known.iter().any(|word| parameter.source.starts_with(word)),
                "{march}.{key}: {}",
                parameter.source
            );
        }
    }
    assert_eq!(Chip::of(March::NashE).unwrap().get(Key::Int8Tops), 80.0);
    assert_eq!(Chip::of(March::NashM).unwrap().get(Key::Int8Tops), 128.0);
}

#[test]
fn a_users_numbers_lie_over_the_files_and_leave_the_others() {
    let chip = Chip::of(March::NashM).unwrap();
    let users = "[nash-m]\nlaunch_us = 0\nddr_gb_per_s = { value = 50.0, source = \"measured\" }\n\
                 [nash-e]\nint8_tops = 1.0\n";
    let own = chip.clone().with(users).unwrap();
    assert_eq!(
        (own.get(Key::LaunchUs), own.get(Key::DdrGbPerS)),
        (0.0, 50.0)
    );
    let source = |wanted: Key| {
        let found = own.parameters().find(|(key, _)| *key == wanted);
        found
            .map(|(_, parameter)| parameter.source.clone())
            .unwrap()
    };
    assert_eq!(source(Key::DdrGbPerS), "measured");
    assert_eq!(source(Key::LaunchUs), "the user's file");
    assert_eq!(own.get(Key::Int8Tops), chip.get(Key::Int8Tops));
    assert!(latency(&site(256, 60), Way::A16W8, &own) < latency(&site(256, 60), Way::A16W8, &chip));
}

#[test]
fn what_is_wrong_in_a_users_file_is_named() {
    for (text, words) in [
        (
            "[nash-m]\nint8_top = 1.0",
            &["nash-m.int8_top", "int8_tops"][..],
        ),
        (
            "[nash-m]\nint8_tops = \"fast\"",
            &["nash-m.int8_tops", "fast", "greater than 0"],
        ),
        (
            "[nash-m]\nddr_gb_per_s = 0",
            &["nash-m.ddr_gb_per_s", "greater than 0"],
        ),
        (
            "[nash-m]\nddr_utilization = 1.5",
            &["nash-m.ddr_utilization", "(0, 1]"],
        ),
        (
            "[nash-m]\nlaunch_us = -1",
            &["nash-m.launch_us", "at least 0"],
        ),
        (
            "[nash-m]\nlaunch_us = { value = nan }",
            &["nash-m.launch_us"],
        ),
        (
            "[nash-m]\nlaunch_us = { source = \"x\" }",
            &["nash-m.launch_us"],
        ),
        (
            "[nash-m]\nlaunch_us = { value = 1, unit = \"us\" }",
            &["nash-m.launch_us.unit"],
        ),
        ("[nash-q]\nlaunch_us = 1", &["nash-q", "nash-e, nash-m"]),
        ("nash-m = 3", &["nash-m", "a table"]),
        ("[nash-m", &["no TOML"]),
    ] {
        let error = Chip::of(March::NashM)
            .unwrap()
            .with(text)
            .unwrap_err()
            .to_string();
        for word in words {
            assert!(error.contains(word), "{text}: {error}");
        }
    }
}

#[test]
fn counts_saturate() {
    let mut huge = site(usize::MAX, 2);
    huge.shape.n = usize::MAX;
    for way in Way::ALL {
        let work = huge.work(way);
        let twice = work.plus(work);
        assert!(twice.loaded_bytes >= work.loaded_bytes, "{way}");
        assert!(
            Estimate::of(&twice, &Chip::of(March::NashE).unwrap())
                .latency_us
                .is_finite()
        );
    }
    assert_eq!(huge.work(Way::Split).macs.total(), u64::MAX);
}
