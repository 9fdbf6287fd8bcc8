//! RNN, GRU and LSTM with every attribute and input that ONNX has, in f64 (ONNX, RNN-22, GRU-22,
//! LSTM-22).

mod activation;

use super::{
    Made,
    call::{Call, tensor},
};
use crate::tensor::{Datum, Tensor};
use activation::Activation;

/// Runs every direction.
pub(super) fn run(call: &Call<'_>) -> Made {
    let cells = Cells::of(call)?;
    let (t, n, d, h) = (cells.steps, cells.batch, cells.directions, cells.hidden);
    let mut y = vec![0.0_f32; t * d * n * h];
    let mut last_h = vec![0.0_f32; d * n * h];
    let mut last_c = vec![0.0_f32; d * n * h];
    for direction in 0..d {
        for sample in 0..n {
            let (mut state, mut memory) = cells.initial(direction, sample);
            let length = cells.lengths[sample];
            for step in 0..length {
                let at = match cells.is_reverse(direction) {
                    true => length - 1 - step,
                    false => step,
                };
                cells.step(direction, (at, sample), &mut state, &mut memory);
                for (unit, &state) in state.iter().enumerate() {
                    let place = match cells.batch_first {
                        true => ((sample * t + at) * d + direction) * h + unit,
                        false => ((at * d + direction) * n + sample) * h + unit,
                    };
                    y[place] = state as f32;
                }
            }
            for unit in 0..h {
                let place = match cells.batch_first {
                    true => (sample * d + direction) * h + unit,
                    false => (direction * n + sample) * h + unit,
                };
                last_h[place] = state[unit] as f32;
                last_c[place] = memory[unit] as f32;
            }
        }
    }
    let (whole, last) = match cells.batch_first {
        true => (vec![n, t, d, h], vec![n, d, h]),
        false => (vec![t, d, n, h], vec![d, n, h]),
    };
    Ok(vec![
        Datum::F32(tensor(&whole, y)?),
        Datum::F32(tensor(&last, last_h)?),
        Datum::F32(tensor(&last, last_c)?),
    ])
}

/// The operands of a node, flat and in f64.
struct Cells<'c> {
    op: &'c str,
    steps: usize,
    batch: usize,
    input: usize,
    hidden: usize,
    directions: usize,
    reverse: bool,
    batch_first: bool,
    linear_before_reset: bool,
    input_forget: bool,
    clip: f64,
    gates: usize,
    x: Vec<f64>,
    w: Vec<f64>,
    r: Vec<f64>,
    b: Vec<f64>,
    peepholes: Vec<f64>,
    initial_h: Vec<f64>,
    initial_c: Vec<f64>,
    lengths: Vec<usize>,
    activations: Vec<Activation>,
}

impl<'c> Cells<'c> {
    fn of(call: &Call<'c>) -> Result<Cells<'c>, String> {
        let op = call.op();
        let gates = match op {
            "LSTM" => 4,
            "GRU" => 3,
            _ => 1,
        };
        let (x, w, r) = (call.floats(0)?, call.floats(1)?, call.floats(2)?);
        let batch_first = call.int("layout", 0) != 0;
        let (steps, batch, input) = match (x.shape(), batch_first) {
            (&[steps, batch, input], false) | (&[batch, steps, input], true) => {
                (steps, batch, input)
            }
            (shape, _) => {
                return Err(format!(
                    "its input has shape {shape:?}, not three dimensions"
                ));
            }
        };
        let &[directions, _, hidden] = r.shape() else {
            return Err(format!(
                "its R has shape {:?}, not three dimensions",
                r.shape()
            ));
        };
        let direction = call.text("direction", "forward");
        if directions != if direction == "bidirectional" { 2 } else { 1 } {
            return Err(format!(
                "its R is for {directions} directions, not {direction}"
            ));
        }
        let check = |name: &str, x: Option<&Tensor>, shape: &[usize]| match x {
            Some(x) if x.shape() != shape => Err(format!(
                "its {name} has shape {:?}, not {shape:?}",
                x.shape()
            )),
            _ => Ok(()),
        };
        check("W", Some(w), &[directions, gates * hidden, input])?;
        check("R", Some(r), &[directions, gates * hidden, hidden])?;
        let bias = call.optional_floats(3)?;
        check("B", bias, &[directions, 2 * gates * hidden])?;
        let state = match batch_first {
            true => [batch, directions, hidden],
            false => [directions, batch, hidden],
        };
        let is_lstm = op == "LSTM";
        let initial_h = call.optional_floats(5)?;
        let of_lstm = |index: usize| match is_lstm {
            true => call.optional_floats(index),
            false => Ok(None),
        };
        let (initial_c, peepholes) = (of_lstm(6)?, of_lstm(7)?);
        check("initial_h", initial_h, &state)?;
        check("initial_c", initial_c, &state)?;
        check("P", peepholes, &[directions, 3 * hidden])?;
        let lengths = match call.list(4)? {
            Some(lengths) => lengths
                .iter()
                .map(|&length| {
                    usize::try_from(length)
                        .ok()
                        .filter(|&length| length <= steps)
                })
                .collect::<Option<Vec<usize>>>()
                .filter(|lengths| lengths.len() == batch)
                .ok_or_else(|| {
                    format!("its sequence_lens {lengths:?} are not {batch} of at most {steps}")
                })?,
            None => vec![steps; batch],
        };
        let flat = |x: Option<&Tensor>, length: usize| -> Vec<f64> {
            match x {
                Some(x) => x.iter().map(|&x| f64::from(x)).collect(),
                None => vec![0.0; length],
            }
        };
        let clip = call.float("clip", 0.0);
        Ok(Cells {
            op,
            steps,
            batch,
            input,
            hidden,
            directions,
            reverse: direction == "reverse",
            batch_first,
            linear_before_reset: call.int("linear_before_reset", 0) != 0,
            input_forget: call.int("input_forget", 0) != 0,
            clip: if clip > 0.0 {
                clip.into()
            } else {
                f64::INFINITY
            },
            gates,
            x: flat(Some(x), 0),
            w: flat(Some(w), 0),
            r: flat(Some(r), 0),
            b: flat(bias, directions * 2 * gates * hidden),
            peepholes: flat(peepholes, directions * 3 * hidden),
            initial_h: flat(initial_h, directions * batch * hidden),
            initial_c: flat(initial_c, directions * batch * hidden),
            lengths,
            activations: activation::of(call, directions)?,
        })
    }

    fn is_reverse(&self, direction: usize) -> bool {
        self.reverse || direction == 1
    }

    fn initial(&self, direction: usize, sample: usize) -> (Vec<f64>, Vec<f64>) {
        let first = match self.batch_first {
            true => sample * self.directions + direction,
            false => direction * self.batch + sample,
        };
        let of = |all: &[f64]| all[first * self.hidden..(first + 1) * self.hidden].to_vec();
        (of(&self.initial_h), of(&self.initial_c))
    }

    /// What the input adds to a gate's unit, its bias included.
    fn of_input(&self, direction: usize, x: &[f64], gate: usize, unit: usize) -> f64 {
        let row = (direction * self.gates + gate) * self.hidden + unit;
        let w = &self.w[row * self.input..(row + 1) * self.input];
        let bias = self.b[(direction * 2 * self.gates + gate) * self.hidden + unit];
        dot(w, x) + bias
    }

    /// What the state adds, without bias.
    fn of_state(&self, direction: usize, state: &[f64], gate: usize, unit: usize) -> f64 {
        let row = (direction * self.gates + gate) * self.hidden + unit;
        dot(&self.r[row * self.hidden..(row + 1) * self.hidden], state)
    }

    fn state_bias(&self, direction: usize, gate: usize, unit: usize) -> f64 {
        self.b[(direction * 2 * self.gates + self.gates + gate) * self.hidden + unit]
    }

    fn step(
        &self,
        direction: usize,
        (at, sample): (usize, usize),
        state: &mut Vec<f64>,
        memory: &mut [f64],
    ) {
        let place = match self.batch_first {
            true => sample * self.steps + at,
            false => at * self.batch + sample,
        };
        let x = &self.x[place * self.input..(place + 1) * self.input];
        let per = self.activations.len() / self.directions;
        let act = |which: usize, z: f64| {
            self.activations[direction * per + which].of(z.clamp(-self.clip, self.clip))
        };
        let whole = |gate: usize, unit: usize| {
            self.of_input(direction, x, gate, unit)
                + self.of_state(direction, state, gate, unit)
                + self.state_bias(direction, gate, unit)
        };
        let units = 0..self.hidden;
        *state = match self.op {
            "LSTM" => {
                let peephole = |gate: usize, unit: usize| {
                    self.peepholes[(direction * 3 + gate) * self.hidden + unit]
                };
                let next: Vec<(f64, f64)> = units
                    .map(|unit| {
                        let before = memory[unit];
                        let input = act(0, whole(0, unit) + peephole(0, unit) * before);
                        let forget = match self.input_forget {
                            true => 1.0 - input,
                            false => act(0, whole(2, unit) + peephole(2, unit) * before),
                        };
                        let cell = forget * before + input * act(1, whole(3, unit));
                        let output = act(0, whole(1, unit) + peephole(1, unit) * cell);
                        (
                            cell,
                            output * self.activations[direction * per + 2].of(cell),
                        )
                    })
                    .collect();
                memory
                    .iter_mut()
                    .zip(&next)
                    .for_each(|(memory, (cell, _))| *memory = *cell);
                next.into_iter().map(|(_, state)| state).collect()
            }
            "GRU" => {
                let resets: Vec<f64> = units.clone().map(|unit| act(0, whole(1, unit))).collect();
                let reset: Vec<f64> = state.iter().zip(&resets).map(|(h, r)| h * r).collect();
                units
                    .map(|unit| {
                        let update = act(0, whole(0, unit));
                        let bias = self.state_bias(direction, 2, unit);
                        let of_state = match self.linear_before_reset {
                            true => {
                                resets[unit] * (self.of_state(direction, state, 2, unit) + bias)
                            }
                            false => self.of_state(direction, &reset, 2, unit) + bias,
                        };
                        let new = act(1, self.of_input(direction, x, 2, unit) + of_state);
                        (1.0 - update) * new + update * state[unit]
                    })
                    .collect()
            }
            _ => units.map(|unit| act(0, whole(0, unit))).collect(),
        };
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}
