//! Each step on small problems made by a fixed seed, degenerate ones among them.

use dual16_nash::{
    dtype::IntDtype,
    quantize::{Rounding, quantize_per_channel},
    scale::{ScaleRule, per_channel_scales},
};
use dual16_quant::fit::{
    InputGrid, LadderOptions, Layer, Moments, Quantized, column_amax, column_factors, gptq,
    held_out_sqnr, ladder, low_rank, moment_sqnr, scales_by_error,
};
use ndarray::{Array2, Axis};

/// Numbers in [-1, 1), the same always (PCG's generator).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> f32 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as f32) / (1u64 << 30) as f32 - 1.0
    }

    fn matrix(&mut self, rows: usize, columns: usize) -> Array2<f32> {
        Array2::from_shape_fn((rows, columns), |_| self.next())
    }

    /// Rows of few degrees of freedom, with a mean: what makes rounding errors add up.
    fn correlated(&mut self, rows: usize, columns: usize) -> Array2<f32> {
        let few = (columns / 3).max(1);
        let x = self.matrix(rows, few).dot(&self.matrix(few, columns));
        x + &self.matrix(1, columns) + 0.1 * self.matrix(rows, columns)
    }
}

fn scales(weight: &Array2<f64>, dtype: IntDtype) -> Vec<f32> {
    let amax =
        |row: ndarray::ArrayView1<'_, f64>| row.iter().fold(0f64, |amax, w| amax.max(w.abs()));
    let divisor = -f64::from(dtype.qmin()) - 0.5;
    let rows = weight.rows().into_iter();
    rows.map(|row| (amax(row) / divisor).max(1e-7) as f32)
        .collect()
}

/// Loss of each output over the rows that the scatter is of.
fn losses(weight: &Array2<f64>, quantized: &Quantized, scatter: &Array2<f64>) -> Vec<f64> {
    let error = quantized.to_float() - weight;
    error
        .rows()
        .into_iter()
        .map(|d| d.dot(&scatter.dot(&d)))
        .collect()
}

#[test]
fn gptq_is_never_worse_than_rounding_on_the_rows_it_is_fitted_to_and_mostly_better() {
    let mut numbers = Numbers(1);
    let (mut better, mut all) = (0.0, 0.0);
    for problem in 0..60 {
        let (o, k) = (1 + problem % 7, 2 + problem % 23);
        let x = numbers.correlated(4 + problem, k);
        let weight = numbers.matrix(o, k).mapv(f64::from);
        let scatter = Moments::of(x.view()).scatter();
        let scales = scales(&weight, IntDtype::Int8);
        let fitted = gptq(&weight, scales.clone(), IntDtype::Int8, &scatter, 0.01);
        let nearest = Quantized::nearest(&weight, scales, IntDtype::Int8);
        let (fitted, nearest) = (
            losses(&weight, &fitted, &scatter),
            losses(&weight, &nearest, &scatter),
        );
        for (fitted, nearest) in fitted.iter().zip(&nearest) {
            assert!(fitted <= nearest, "problem {problem}: {fitted} > {nearest}");
        }
        better += nearest.iter().sum::<f64>();
        all += fitted.iter().sum::<f64>();
    }
    println!("GPTQ leaves {:.3} of the error of rounding", all / better);
    assert!(all < 0.5 * better, "{all} of {better}");
}

/// The plain candidate is the way as it runs without any of this.
#[test]
fn the_plain_candidate_has_the_integers_of_the_way() {
    let mut numbers = Numbers(8);
    let weight = numbers.matrix(9, 17);
    let scales = per_channel_scales(
        weight.as_slice().unwrap(),
        [9, 17],
        IntDtype::Int8,
        ScaleRule::default(),
        false,
    );
    let scales = scales.unwrap();
    let mut q = vec![0i8; weight.len()];
    quantize_per_channel(
        weight.as_slice().unwrap(),
        [9, 17],
        &scales,
        Rounding::default(),
        &mut q,
    )
    .unwrap();
    let layer = Layer {
        weight: weight.view(),
        bias: None,
    };
    let inputs = Moments::of(numbers.correlated(20, 17).view());
    let plain = &ladder(
        &layer,
        &inputs,
        &LadderOptions::new(IntDtype::Int16, IntDtype::Int8),
    )[0]
    .fitted;
    let expected: Vec<f32> = scales.iter().map(|scale| scale.get()).collect();
    assert_eq!(plain.weight.scales, expected);
    assert!(
        plain
            .weight
            .q
            .iter()
            .zip(&q)
            .all(|(ours, theirs)| *ours == i16::from(*theirs))
    );
}

#[test]
fn a_searched_scale_is_never_worse_than_the_ranges() {
    let mut numbers = Numbers(2);
    for problem in 0..20 {
        let k = 3 + problem;
        let scatter = Moments::of(numbers.correlated(40, k).view()).scatter();
        let weight = numbers.matrix(4, k).mapv(f64::from);
        let own = scales(&weight, IntDtype::Int8);
        let searched = scales_by_error(&weight, &own, IntDtype::Int8, &scatter);
        let loss = |scales: &Vec<f32>| {
            losses(
                &weight,
                &Quantized::nearest(&weight, scales.clone(), IntDtype::Int8),
                &scatter,
            )
        };
        for (searched, own) in loss(&searched).iter().zip(loss(&own)) {
            assert!(*searched <= own, "problem {problem}");
        }
    }
}

#[test]
fn moments_of_parts_add_up_and_take_the_mean_away() {
    let mut x = Numbers(3).correlated(700, 9);
    let whole = Moments::of(x.view());
    let mut parts = Moments::of(x.slice_axis(Axis(0), (..300).into()));
    parts.merge(&Moments::of(x.slice_axis(Axis(0), (300..).into())));
    assert_eq!((whole.rows(), parts.rows()), (700, 700));
    let close =
        |a: &Array2<f64>, b: &Array2<f64>| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-6);
    assert!(close(&whole.second(), &parts.second()));
    let x64 = x.mapv(f64::from);
    let centred = &x64 - &x64.mean_axis(Axis(0)).unwrap();
    assert!(close(&whole.scatter(), &centred.t().dot(&centred)));
    x[[5, 2]] = f32::NAN;
    x[[6, 0]] = f32::INFINITY;
    assert_eq!(Moments::of(x.view()).rows(), 698);
}

/// A wider branch leaves less; one as wide as the layer is none.
#[test]
fn a_low_rank_branch_takes_the_largest_errors_away() {
    let mut numbers = Numbers(4);
    for (o, k) in [(12, 20), (20, 12)] {
        let scatter = Moments::of(numbers.correlated(200, k).view()).scatter();
        let residual = numbers.matrix(o, k).mapv(f64::from);
        let left = |branch: Option<&Array2<f64>>| {
            let left = branch.map_or(residual.clone(), |branch| &residual - branch);
            left.rows()
                .into_iter()
                .map(|d| d.dot(&scatter.dot(&d)))
                .sum::<f64>()
        };
        let branches = low_rank(&residual, &scatter, &[1, 3, 6, 12]);
        let ranks: Vec<usize> = branches.iter().map(|branch| branch.rank()).collect();
        assert_eq!(ranks, [1, 3, 6], "{o}x{k}");
        let mut before = left(None);
        for branch in &branches {
            let now = left(Some(&branch.product()));
            assert!(
                now < before,
                "{o}x{k} rank {}: {now} of {before}",
                branch.rank()
            );
            before = now;
        }
        // A third of the columns vary freely, and rank 6 has them nearly all.
        assert!(
            before < 0.1 * left(None),
            "{o}x{k}: {before} of {}",
            left(None)
        );
    }
}

#[test]
fn equalization_leaves_the_layer_what_it_was() {
    let mut numbers = Numbers(5);
    let mut x = numbers.correlated(50, 8);
    x.column_mut(3).mapv_inplace(|x| 100.0 * x);
    x.column_mut(5).fill(0.0);
    let weight = numbers.matrix(4, 8);
    let inputs = Moments::of(x.view());
    let factors = column_factors(inputs.amax(), &column_amax([weight.view()]), 0.5);
    assert_eq!(
        factors.iter().filter(|factor| **factor == 1.0).count(),
        1,
        "{factors:?}"
    );
    assert!(factors[3] > 5.0 * factors[2], "{factors:?}");
    let layer = Layer {
        weight: weight.view(),
        bias: None,
    };
    let candidates = ladder(
        &layer,
        &inputs,
        &LadderOptions::new(IntDtype::Int16, IntDtype::Int8),
    );
    let equalized = candidates
        .iter()
        .find(|candidate| candidate.name == "eq0.5+bc")
        .unwrap();
    let fitted = &equalized.fitted;
    let difference = fitted.effective_weight() - weight.mapv(f64::from);
    for ((output, input), d) in difference.indexed_iter() {
        let half_a_step = 0.5 * f64::from(fitted.weight.scales[output]) / factors[input];
        assert!(
            d.abs() <= 1.01 * half_a_step,
            "{output} {input}: {d}, {half_a_step}"
        );
    }
    assert_eq!(equalized.fitted.columns.as_ref().unwrap(), &factors);
}

/// Whatever the inputs are, every candidate is whole and finite, and making them again gives the same.
#[test]
fn degenerate_inputs_give_whole_layers() {
    let mut numbers = Numbers(6);
    let k = 10;
    let random = numbers.correlated(30, k);
    let one = random.slice_axis(Axis(0), (..1).into()).to_owned();
    let constant = Array2::from_elem((40, k), 3.5);
    let mut dead = random.clone();
    dead.column_mut(4).fill(0.0);
    dead.column_mut(7).fill(-2.0);
    let twins = Array2::from_shape_fn((30, k), |(row, column)| random[[row, column / 2]]);
    let none = Array2::zeros((0, k));
    let huge = random.mapv(|x| x * 1e18);
    let tiny = random.mapv(|x| x * 1e-30);
    for (what, x) in [
        ("one row", one),
        ("constant", constant),
        ("dead columns", dead),
        ("equal columns", twins),
        ("no row", none),
        ("huge", huge),
        ("tiny", tiny),
        ("zeros", Array2::zeros((5, k))),
    ] {
        for weight in [numbers.matrix(6, k), Array2::zeros((6, k))] {
            let layer = Layer {
                weight: weight.view(),
                bias: None,
            };
            let inputs = Moments::of(x.view());
            let options = LadderOptions::new(IntDtype::Int16, IntDtype::Int8);
            let candidates = ladder(&layer, &inputs, &options);
            assert_eq!(candidates[0].name, "", "{what}");
            for candidate in &candidates {
                let fitted = &candidate.fitted;
                let finite = fitted.effective_weight().iter().all(|w| w.is_finite());
                assert!(
                    finite && fitted.bias.iter().all(|b| b.is_finite()),
                    "{what} {}",
                    candidate.name
                );
                let input = InputGrid::new(IntDtype::Int16, inputs.amax());
                let db = held_out_sqnr(&layer, fitted, &input, random.view());
                assert!(
                    db.is_none_or(|db| !db.is_nan()),
                    "{what} {}",
                    candidate.name
                );
            }
            let again = ladder(&layer, &inputs, &options);
            let bytes = |candidates: &[dual16_quant::fit::Candidate]| format!("{candidates:?}");
            assert_eq!(bytes(&candidates), bytes(&again), "{what}");
        }
    }
}

#[test]
fn rows_that_do_not_fit_a_layer_have_no_figure() {
    let mut numbers = Numbers(7);
    let (weight, x) = (numbers.matrix(3, 5), numbers.matrix(20, 6));
    let layer = Layer {
        weight: weight.view(),
        bias: None,
    };
    let inputs = Moments::of(x.view());
    let candidates = ladder(
        &layer,
        &inputs,
        &LadderOptions::new(IntDtype::Int16, IntDtype::Int8),
    );
    assert_eq!(candidates.len(), 1);
    let plain = &candidates[0].fitted;
    assert_eq!(moment_sqnr(&layer, plain, &inputs), None);
    let input = InputGrid::new(IntDtype::Int8, inputs.amax());
    assert_eq!(held_out_sqnr(&layer, plain, &input, x.view()), None);
}
