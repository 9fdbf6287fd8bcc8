//! Exact errors against runs of the whole model, and the estimate against them.

use dual16_nash::IntDtype;
use dual16_quant::{
    Error, Result,
    exec::{Carried, Integers, Machine, Validation, walk},
    graph::{Node, NodeId, Op, ValueId},
    metrics::{ErrorSums, Metric, OutputError},
    onnx::f32_value,
    plan::Plan,
    sensitivity::{
        Estimate, PROBES, Row, RowKind, cumulative, estimate, exact, exact_all, rank_correlation,
        rows,
    },
    tensor::Tensor,
};

use crate::{
    planned::Planned,
    shared::{Sample, data, made},
};

fn article() -> Planned {
    Planned::new(Sample::load(&data("smallmodel")))
}

fn digits() -> Planned {
    Planned::new(Sample::load(&data("digits")))
}

/// The outputs in VALIDATION of a plan.
fn validated(planned: &Planned, plan: &Plan) -> Vec<Tensor> {
    let Sample {
        graph,
        float,
        probe,
        ..
    } = &planned.sample;
    let mut machine = Validation::new(graph, plan, &planned.prepared);
    outputs(planned, &mut machine, float, probe)
}

fn outputs<M: Machine<Value = Tensor>>(
    planned: &Planned,
    machine: &mut M,
    float: &dual16_quant::float::FloatModel,
    probe: &dual16_quant::exec::Capture,
) -> Vec<Tensor> {
    let graph = planned.graph();
    let mut made = vec![Tensor::default(ndarray::IxDyn(&[0])); graph.outputs.len()];
    let keep = |id: ValueId, value: &Carried<Tensor>| {
        for (slot, output) in made.iter_mut().zip(&graph.outputs) {
            if let (true, Carried::Value(tensor)) = (*output == id, value) {
                *slot = tensor.clone();
            }
        }
        Ok(())
    };
    walk(graph, float, probe, Integers::Frozen, machine, keep).unwrap();
    made
}

#[test]
fn all_fake_quants_together_are_validation() {
    for planned in [article(), digits()] {
        let analysis = planned.analysis();
        let values = planned.values(&analysis);
        let graph = planned.graph();
        let mut rows = rows(graph, &planned.plan);
        // Tables act in CONVERTED only.
        rows.retain(|row| row.kind(graph) != RowKind::Table);
        let all = cumulative(&analysis, &values, &rows, &[rows.len()], || Ok(())).unwrap();
        let wanted = validated(&planned, &planned.plan);
        for (error, (id, wanted)) in all[0]
            .iter()
            .zip(planned.graph().outputs.iter().zip(wanted))
        {
            let name = planned.graph().value(*id).onnx.clone().unwrap();
            let float = planned.sample.probe[&name].as_f32().unwrap();
            let mut sums = ErrorSums::default();
            sums.update(float.as_slice().unwrap(), wanted.as_slice().unwrap())
                .unwrap();
            let (got, wanted) = (error.metrics().sqnr_db, sums.finish(None).sqnr_db);
            println!("{name}: {got:?} dB, VALIDATION {wanted:?} dB");
            // The float runs of two engines differ in their last bits.
            assert!((got.unwrap() - wanted.unwrap()).abs() < 0.01);
        }
    }
}

/// A plan in which one value is quantized and nothing else.
fn alone(planned: &Planned, row: Row) -> Option<Plan> {
    let (Row::Activation(kept) | Row::Constant(kept)) = row else {
        return None;
    };
    let graph = planned.graph();
    let mut plan = planned.plan.clone();
    plan.operands.clear();
    for (index, value) in plan.values.iter_mut().enumerate() {
        if graph.origin(ValueId(index)) != kept {
            value.effective = None;
        }
    }
    Some(plan)
}

/// VALIDATION whose Linears keep their float weights.
struct FloatWeights<'a>(Validation<'a>);

impl Machine for FloatWeights<'_> {
    type Value = Tensor;

    fn enter(&mut self, id: ValueId, tensor: &Tensor) -> Result<Tensor> {
        self.0.enter(id, tensor)
    }

    fn leave(&self, value: &Tensor) -> Tensor {
        self.0.leave(value)
    }

    fn run(
        &mut self,
        id: NodeId,
        node: &Node,
        inputs: &[&Tensor],
        shapes: &[Option<&[usize]>],
    ) -> Result<Vec<Tensor>> {
        let Op::Linear(linear) = &node.op else {
            return self.0.run(id, node, inputs, shapes);
        };
        let x = inputs[0];
        let rows = x.len() / linear.weight.dim().1;
        let x = x
            .to_shape((rows, linear.weight.dim().1))
            .map_err(|error| Error::FloatRun {
                node: node.name.clone(),
                reason: error.to_string(),
            })?;
        let mut y = x.dot(&linear.weight.t());
        if let Some(bias) = &linear.bias {
            y += bias.as_ref();
        }
        let shape = shapes[0].unwrap().to_vec();
        let y = y.as_standard_layout().into_owned();
        let y = Tensor::from_shape_vec(shape, y.into_raw_vec_and_offset().0).unwrap();
        Ok(vec![self.0.enter(node.outputs[0], &y)?])
    }
}

#[test]
fn each_activation_alone_is_a_whole_run_with_it_alone() {
    for planned in [article(), digits()] {
        let analysis = planned.analysis();
        let values = planned.values(&analysis);
        let Sample {
            graph,
            float,
            probe,
            ..
        } = &planned.sample;
        let mut compared = 0;
        for row in rows(graph, &planned.plan) {
            let Some(plan) = alone(&planned, row) else {
                continue;
            };
            let machine = Validation::new(graph, &plan, &planned.prepared);
            let whole = outputs(&planned, &mut FloatWeights(machine), float, probe);
            let none = Plan {
                values: plan
                    .values
                    .iter()
                    .cloned()
                    .map(|value| dual16_quant::plan::ValuePlan {
                        effective: None,
                        ..value
                    })
                    .collect(),
                ..Plan::default()
            };
            let machine = Validation::new(graph, &none, &planned.prepared);
            let base = outputs(&planned, &mut FloatWeights(machine), float, probe);
            let got = exact(&analysis, &values, row).unwrap();
            for ((got, whole), base) in got.iter().zip(whole).zip(base) {
                let mut sums = ErrorSums::default();
                sums.update(base.as_slice().unwrap(), whole.as_slice().unwrap())
                    .unwrap();
                let (got, wanted) = (got.metrics().sqnr_db, sums.finish(None).sqnr_db);
                let (Some(got), Some(wanted)) = (got, wanted) else {
                    assert_eq!(got, wanted, "{}", row.name(graph));
                    continue;
                };
                // Errors near the last bits of f32 have a share of rounding.
                let tolerance = if wanted < 100.0 { 0.02 } else { 3.0 };
                assert!(
                    (got - wanted).abs() < tolerance,
                    "{}: {got} dB, a whole run {wanted}",
                    row.name(graph)
                );
                compared += 1;
            }
        }
        assert!(compared > 5, "{compared}");
    }
}

#[test]
fn one_weight_alone_is_its_layer_quantized() {
    let planned = article();
    let analysis = planned.analysis();
    let values = planned.values(&analysis);
    let (last, node, _) = planned.graph().linears().last().unwrap();
    let got = exact(&analysis, &values, Row::Weight(last)).unwrap();
    // The last layer makes the output, so its error is there as it is made.
    assert!(planned.graph().is_output(node.outputs[0]));
    let sample = &planned.sample;
    let x = sample.probe[planned.graph().value(node.inputs[0]).onnx.as_ref().unwrap()].as_f32();
    let y = planned.prepared.linears[&last.0]
        .run_fake_quant(x.unwrap())
        .unwrap();
    let float = sample.probe[planned
        .graph()
        .value(node.outputs[0])
        .onnx
        .as_ref()
        .unwrap()]
    .as_f32();
    let mut sums = ErrorSums::default();
    sums.update(float.unwrap().as_slice().unwrap(), y.as_slice().unwrap())
        .unwrap();
    let (got, wanted) = (
        got[0].metrics().sqnr_db.unwrap(),
        sums.finish(None).sqnr_db.unwrap(),
    );
    assert!((got - wanted).abs() < 1e-2, "{got} {wanted}");
}

#[test]
fn the_weight_of_linear2_is_on_top_of_the_articles_model_by_l1() {
    let planned = article();
    let analysis = planned.analysis();
    let values = planned.values(&analysis);
    let rows = rows(planned.graph(), &planned.plan);
    let l1 = |row: &Row| {
        let error = exact(&analysis, &values, *row).unwrap();
        error[0].figure(Metric::L1).unwrap()
    };
    let mut table: Vec<(f64, Row)> = rows.iter().map(|row| (l1(row), *row)).collect();
    table.sort_by(|a, b| b.0.total_cmp(&a.0));
    for (l1, row) in &table {
        let kind = row.kind(planned.graph()).name();
        println!("{l1:.6} {kind:10} {}", row.name(planned.graph()));
    }
    assert!(matches!(table[0].1, Row::Weight(_)));
    assert_eq!(table[0].1.name(planned.graph()), "linear2");
}

fn ranks(planned: &Planned) -> f64 {
    let analysis = planned.analysis();
    let values = planned.values(&analysis);
    let rows = rows(planned.graph(), &planned.plan);
    let estimated = estimate(&analysis, &values, &rows, PROBES, 1).unwrap();
    let exact = exact_all(&analysis, &values, &rows, || Ok(())).unwrap();
    let pairs: Vec<(f64, f64)> = exact
        .into_iter()
        .enumerate()
        .filter_map(|(row, exact)| {
            let exact = exact.unwrap()[0].figure(Metric::Sqnr)?;
            Some((exact, estimated.sqnr_db(row, 0)?))
        })
        .collect();
    let (exact, estimated): (Vec<f64>, Vec<f64>) = pairs.into_iter().unzip();
    rank_correlation(&exact, &estimated).unwrap()
}

#[test]
fn the_estimate_ranks_rows_as_the_exact_table_does() {
    for planned in [article(), digits()] {
        let rank = ranks(&planned);
        println!("rank correlation {rank:.3}");
        assert!(rank >= 0.9, "{rank}");
    }
}

#[test]
fn more_passes_come_to_the_exact_error_where_it_is_small() {
    let planned = article();
    let analysis = planned.analysis();
    let values = planned.values(&analysis);
    let rows: Vec<Row> = rows(planned.graph(), &planned.plan);
    let estimated = estimate(&analysis, &values, &rows, 512, 3).unwrap();
    let mut compared = 0;
    for (index, &row) in rows.iter().enumerate() {
        let exact = exact(&analysis, &values, row).unwrap()[0].figure(Metric::Sqnr);
        let Some(exact) = exact.filter(|db| (60.0..110.0).contains(db)) else {
            continue;
        };
        let estimated = estimated.sqnr_db(index, 0).unwrap();
        println!("{exact:.2} {estimated:.2} {}", row.name(planned.graph()));
        assert!(
            (exact - estimated).abs() < 1.0,
            "{}",
            row.name(planned.graph())
        );
        compared += 1;
    }
    assert!(compared >= 5, "{compared}");
}

#[test]
fn results_do_not_depend_on_the_number_of_threads() {
    let planned = digits();
    let analysis = planned.analysis();
    let values = planned.values(&analysis);
    let rows = rows(planned.graph(), &planned.plan);
    let on = |threads: usize| -> Vec<Vec<OutputError>> {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
        let run = || exact_all(&analysis, &values, &rows, || Ok(()));
        let table = pool.build().unwrap().install(run).unwrap();
        table.into_iter().map(Result::unwrap).collect()
    };
    assert_eq!(on(1), on(4));
    let estimated = || estimate(&analysis, &values, &rows, PROBES, 5).unwrap();
    assert_eq!(estimated(), estimated());
}

#[test]
fn a_row_stops_where_it_changes_nothing() {
    // Nothing of the second half reaches the output.
    let made = made::Made::new(&[2, 4])
        .indices("from", &[0])
        .indices("to", &[2])
        .indices("axis", &[1])
        .node("Tanh", &["x"], &["t"])
        .node("Slice", &["t", "from", "to", "axis"], &["s"])
        .scalar("zero", 0.0)
        .node("Mul", &["s", "zero"], &["z"])
        .node("Add", &["z", "zero"], &["y"]);
    let planned = Planned::of(
        Sample::new(made.model(), made::batch(&[2, 4])),
        IntDtype::Int8,
    );
    let analysis = planned.analysis();
    let values = planned.values(&analysis);
    for row in rows(planned.graph(), &planned.plan) {
        let error = exact(&analysis, &values, row).unwrap()[0];
        assert_eq!(error.figure(Metric::L1), Some(0.0));
        assert_eq!(error.figure(Metric::Sqnr), None);
    }
}

#[test]
fn batches_merge_into_what_they_are_together() {
    let planned = article();
    let analysis = planned.analysis();
    let values = planned.values(&analysis);
    let rows = rows(planned.graph(), &planned.plan);
    let one = estimate(&analysis, &values, &rows, PROBES, 1).unwrap();
    let mut twice: Estimate = one.clone();
    twice.merge(&one);
    for row in 0..rows.len() {
        let (one, twice) = (one.sqnr_db(row, 0), twice.sqnr_db(row, 0));
        assert!((one.unwrap() - twice.unwrap()).abs() < 1e-9 || one == twice);
    }
    let mut error = exact(&analysis, &values, rows[0]).unwrap()[0];
    let alone = error;
    error.merge(&alone);
    for metric in Metric::ALL {
        let (merged, alone) = (error.figure(metric), alone.figure(metric));
        match (merged, alone) {
            (Some(merged), Some(alone)) => {
                assert!((merged - alone).abs() <= 1e-9 * alone.abs(), "{metric}");
            }
            _ => assert_eq!(merged, alone, "{metric}"),
        }
    }
}

#[test]
fn errors_are_measured_at_the_outputs_asked_for() {
    let mut made =
        made::Made::new(&[2, 4])
            .node("Tanh", &["x"], &["t"])
            .node("Sigmoid", &["x"], &["y"]);
    made.graph.output.push(f32_value("t", None));
    let planned = Planned::of(
        Sample::new(made.model(), made::batch(&[2, 4])),
        IntDtype::Int8,
    );
    let both = planned.analysis();
    let outputs = both.outputs().to_vec();
    assert_eq!(outputs.len(), 2);
    let values = planned.values(&both);
    let rows = rows(planned.graph(), &planned.plan);
    let all = estimate(&both, &values, &rows, PROBES, 0).unwrap();
    for (place, &output) in outputs.iter().enumerate() {
        let one = planned.analysis().with_outputs(vec![output]).unwrap();
        let estimated = estimate(&one, &values, &rows, PROBES, 0).unwrap();
        for (index, &row) in rows.iter().enumerate() {
            let of_both = exact(&both, &values, row).unwrap();
            assert_eq!(exact(&one, &values, row).unwrap(), [of_both[place]]);
            // The tanh leads to one output and the sigmoid to the other.
            let silent = of_both[place].figure(Metric::Sqnr).is_none();
            assert_eq!(estimated.sqnr_db(index, 0) == Some(f64::INFINITY), silent);
            assert!(all.whole_db(index).unwrap().is_finite());
        }
    }
    let inner = ValueId(usize::MAX);
    assert!(planned.analysis().with_outputs(vec![inner]).is_err());
}

#[test]
fn a_mask_of_minus_infinity_leaves_figures_and_estimates() {
    let made = made::Made::new(&[2, 3, 4])
        .constant("mask", &[4], &[0.0, f32::NEG_INFINITY, 0.0, 0.0])
        .node("Add", &["x", "mask"], &["scores"])
        .node("Softmax", &["scores"], &["y"])
        .int("axis", -1);
    let planned = Planned::of(
        Sample::new(made.model(), made::batch(&[2, 3, 4])),
        IntDtype::Int8,
    );
    let analysis = planned.analysis();
    let values = planned.values(&analysis);
    let rows = rows(planned.graph(), &planned.plan);
    let estimated = estimate(&analysis, &values, &rows, PROBES, 0).unwrap();
    for (index, &row) in rows.iter().enumerate() {
        let error = exact(&analysis, &values, row).unwrap()[0];
        let name = row.name(planned.graph());
        println!(
            "{name} {:?} {:?}",
            error.metrics(),
            estimated.sqnr_db(index, 0)
        );
        assert!(error.figure(Metric::Kl).is_some(), "{name}");
        assert!(estimated.sqnr_db(index, 0).is_some(), "{name}");
    }
}

#[test]
fn a_table_that_is_cancelled_ends() {
    let planned = article();
    let analysis = planned.analysis();
    let values = planned.values(&analysis);
    let rows = rows(planned.graph(), &planned.plan);
    let ended = exact_all(&analysis, &values, &rows, || Err(Error::Cancelled));
    assert!(matches!(ended, Err(Error::Cancelled)));
}
