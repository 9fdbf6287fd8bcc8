//! Functions of one variable as look-up tables: 256 entries for int8 -> int8, exact; a segment
//! table for everything else `[pub]`. The table acts only in CONVERTED; VALIDATION uses
//! [`LutFunction::eval_f32`] and an output fake quant `[pub]`.
//!
//! A segment table that meets a tensor larger than its input format is expanded once, to one entry for
//! each input; the values are those of the segments.
//!
//! Building is float (f64, `libm`: the same table on every machine); applying is integer only.

mod division;
mod function;
mod seen;
mod segment;

pub use division::Division;
pub use function::LutFunction;
pub use segment::{ENTRIES, SEGMENTS, SegmentLut};

use std::ops::RangeInclusive;
use std::sync::OnceLock;

use crate::dtype::{IntDtype, QInt};
use crate::error::{LutError, check_len};
use crate::scale::Scale;
use crate::simd::{Isa, for_each_isa};

/// What a table is built for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LutSpec {
    /// The function.
    pub function: LutFunction,
    /// Format of the input.
    pub input: IntDtype,
    /// Scale of the input.
    pub input_scale: Scale,
    /// Format of the output.
    pub output: IntDtype,
    /// Scale of the output.
    pub output_scale: Scale,
    /// Real range (min, max) that inputs were seen in; the six segments cover it and the tails the
    /// rest. `None` = everything that the input can express.
    pub observed: Option<(f32, f32)>,
}

/// A table with its formats.
#[derive(Debug, Clone, PartialEq)]
pub struct Lut {
    input: IntDtype,
    output: IntDtype,
    kind: Kind,
    max_error_lsb: f64,
}

#[derive(Debug, Clone, PartialEq)]
enum Kind {
    /// One entry for each int8, from -128 up.
    Direct(Box<[i8; 256]>),
    Segments {
        table: Box<SegmentLut>,
        /// The table's value for every input, from qmin up; made when a tensor comes that is larger.
        expanded: OnceLock<Box<[i16]>>,
    },
}

impl Lut {
    /// Builds the table; for a segment table the best of the candidates of [`Division`] by measured
    /// error.
    ///
    /// # Errors
    /// [`LutError::InvalidRange`] for an observed range that is not finite and ordered;
    /// [`LutError::NotFinite`] for a parameter (eps) that makes the function NaN.
    pub fn build(spec: &LutSpec) -> Result<Self, LutError> {
        let ideal = Ideal::new(spec)?;
        let domain = spec.domain()?;
        let (kind, error) = if !spec.has_segments() {
            let entry = |q: i32| i8::saturate(ideal.at(q).round_ties_even() as i64);
            let entries: [i8; 256] = std::array::from_fn(|i| entry(spec.input.qmin() + i as i32));
            let at = |q: i32| entries[(q - spec.input.qmin()) as usize].into();
            let error = ideal.max_error(domain, at);
            (Kind::Direct(Box::new(entries)), error)
        } else {
            let (table, error) = division::best(&ideal, domain);
            let kind = Kind::Segments {
                table: Box::new(table),
                expanded: OnceLock::new(),
            };
            (kind, error)
        };
        Ok(Self {
            input: spec.input,
            output: spec.output,
            kind,
            max_error_lsb: error,
        })
    }

    /// The table with these ends of its segments (first input of each, last input of the last one); one
    /// of int8 -> int8 has none and is as [`Lut::build`] makes it.
    ///
    /// # Errors
    /// [`LutError::Bounds`] where they do not increase within the input's format; otherwise as
    /// [`Lut::build`].
    pub fn divided(spec: &LutSpec, bounds: &[i32; SEGMENTS + 1]) -> Result<Self, LutError> {
        if !spec.has_segments() {
            return Self::build(spec);
        }
        let inside = spec.input_values();
        let increase = bounds.windows(2).all(|pair| pair[0] < pair[1]);
        if !increase || !bounds.iter().all(|bound| inside.contains(bound)) {
            return Err(LutError::Bounds { bounds: *bounds });
        }
        let ideal = Ideal::new(spec)?;
        let table = SegmentLut::build(&ideal, Division::Seen, bounds);
        let error = ideal.max_error(spec.domain()?, |q| table.eval(q));
        Ok(Self {
            input: spec.input,
            output: spec.output,
            kind: Kind::Segments {
                table: Box::new(table),
                expanded: OnceLock::new(),
            },
            max_error_lsb: error,
        })
    }

    /// The ends of segments with the smallest error over inputs that were seen, for [`Lut::divided`];
    /// never worse over them than [`Lut::build`]'s. `weights` say how often each input was seen, from
    /// qmin up; `summed` is how many elements what reads the table adds at a time (1 for none), which
    /// is how much a mean error weighs. None for int8 -> int8, which has no segments.
    ///
    /// # Errors
    /// [`LutError::Shape`] unless there is one weight for each input of the format; otherwise as
    /// [`Lut::build`].
    pub fn division_for(
        spec: &LutSpec,
        weights: &[f64],
        summed: usize,
    ) -> Result<Option<[i32; SEGMENTS + 1]>, LutError> {
        check_len("weights", weights.len(), spec.input_values().count())?;
        if !spec.has_segments() {
            return Ok(None);
        }
        let ideal = Ideal::new(spec)?;
        let (table, _) = seen::best(&ideal, spec.domain()?, weights, summed);
        Ok(Some(table.bounds()))
    }

    /// By input from qmin up, what the table gives less the function, in output LSB: the function
    /// rounded half to even and saturated, so that 0 is a table without error.
    ///
    /// # Errors
    /// As [`Lut::build`], whose specification this must be.
    pub fn errors(&self, spec: &LutSpec) -> Result<Vec<i32>, LutError> {
        let ideal = Ideal::new(spec)?;
        let rounded = |q: i32| ideal.at(q).round_ties_even() as i32;
        let table = |q: i32| match &self.kind {
            Kind::Direct(entries) => entries[(q - spec.input.qmin()) as usize].into(),
            Kind::Segments { table, .. } => table.eval(q),
        };
        Ok(spec.input_values().map(|q| table(q) - rounded(q)).collect())
    }

    /// Looks every value up.
    ///
    /// # Errors
    /// [`LutError::Dtype`] for another format than the table's, [`LutError::Shape`] if the lengths
    /// differ.
    pub fn apply<A: QInt, Y: QInt>(&self, x: &[A], y: &mut [Y]) -> Result<(), LutError> {
        self.apply_on(Isa::best(), x, y)
    }

    /// [`Lut::apply`] on an instruction set of the caller's choice.
    ///
    /// # Errors
    /// As [`Lut::apply`].
    pub fn apply_on<A: QInt, Y: QInt>(
        &self,
        isa: Isa,
        x: &[A],
        y: &mut [Y],
    ) -> Result<(), LutError> {
        check_dtype("input", self.input, A::DTYPE)?;
        check_dtype("output", self.output, Y::DTYPE)?;
        check_len("output", y.len(), x.len())?;
        match &self.kind {
            Kind::Direct(entries) => direct(isa, x, entries, y),
            Kind::Segments { table, .. } if isa == Isa::PORTABLE || x.len() < self.inputs() => {
                segment::apply(isa, x, table, y);
            }
            Kind::Segments { table, expanded } => {
                look_up_each(isa, x, expanded.get_or_init(|| self.expand(table)), y);
            }
        }
        Ok(())
    }

    /// How many inputs the format has.
    fn inputs(&self) -> usize {
        1 << self.input.bits()
    }

    /// A load from the second-level cache is several times faster than the arithmetic of a segment.
    fn expand(&self, table: &SegmentLut) -> Box<[i16]> {
        let inputs = self.input.qmin()..=self.input.qmax();
        inputs.map(|q| i16::saturate_i32(table.eval(q))).collect()
    }

    /// Largest |table - function| over the observed range, in output LSB, the function saturated
    /// to the output's format but not rounded: 0.5 is the best an exact table can do.
    pub fn max_error_lsb(&self) -> f64 {
        self.max_error_lsb
    }

    /// The segments, where the table has any.
    pub fn segments(&self) -> Option<&SegmentLut> {
        match &self.kind {
            Kind::Direct(_) => None,
            Kind::Segments { table, .. } => Some(table),
        }
    }
}

impl LutSpec {
    /// Whether the table has segments, and with them an error: every one but int8 -> int8.
    pub fn has_segments(&self) -> bool {
        (self.input, self.output) != (IntDtype::Int8, IntDtype::Int8)
    }

    fn input_values(&self) -> RangeInclusive<i32> {
        self.input.qmin()..=self.input.qmax()
    }

    /// Integer inputs that the observed range covers, at least [`SEGMENTS`] steps wide.
    fn domain(&self) -> Result<(i32, i32), LutError> {
        let (qmin, qmax) = (self.input.qmin(), self.input.qmax());
        let Some((min, max)) = self.observed else {
            return Ok((qmin, qmax));
        };
        if !(min.is_finite() && max.is_finite() && min <= max) {
            return Err(LutError::InvalidRange { min, max });
        }
        let steps = |real: f32| f64::from(real) / self.input_scale.to_f64();
        let width = SEGMENTS as i32;
        let low = (steps(min).floor() as i32).clamp(qmin, qmax - width);
        let high = (steps(max).ceil() as i32).clamp(low + width, qmax);
        Ok((low, high))
    }
}

for_each_isa! {
    /// One load for each value: 256 entries stay in the first-level cache.
    fn direct<A: QInt, Y: QInt>(x: &[A], entries: &[i8; 256], y: &mut [Y]) {
        portable: look_up,
        vector: look_up,
    }
}

#[inline(always)]
fn look_up<A: QInt, Y: QInt>(x: &[A], entries: &[i8; 256], y: &mut [Y]) {
    for (y, q) in y.iter_mut().zip(x) {
        let at = q.to_i32().wrapping_sub(IntDtype::Int8.qmin()) as u8;
        *y = Y::saturate_i32(entries[usize::from(at)].into());
    }
}

for_each_isa! {
    /// One load for each value from a table of every input, 128 KiB for int16.
    fn look_up_each<A: QInt, Y: QInt>(x: &[A], entries: &[i16], y: &mut [Y]) {
        portable: look_up_any,
        vector: look_up_any,
    }
}

#[inline(always)]
fn look_up_any<A: QInt, Y: QInt>(x: &[A], entries: &[i16], y: &mut [Y]) {
    // As long as the format has inputs; saying so here leaves one check for the whole loop.
    let entries = &entries[..1 << A::DTYPE.bits()];
    for (y, q) in y.iter_mut().zip(x) {
        let at = q.to_i32().wrapping_sub(A::DTYPE.qmin()) as usize & (entries.len() - 1);
        *y = Y::saturate_i32(entries[at].into());
    }
}

fn check_dtype(port: &'static str, expected: IntDtype, got: IntDtype) -> Result<(), LutError> {
    if expected == got {
        Ok(())
    } else {
        Err(LutError::Dtype {
            port,
            expected,
            got,
        })
    }
}

/// The function in units of the output's LSB over positions in units of the input's, saturated to
/// the output's format: what a table is measured against.
struct Ideal {
    spec: LutSpec,
    /// At every integer input, from qmin up.
    values: Vec<f64>,
}

impl Ideal {
    fn new(spec: &LutSpec) -> Result<Self, LutError> {
        let mut ideal = Self {
            spec: *spec,
            values: Vec::new(),
        };
        ideal.values = spec
            .input_values()
            .map(|q| ideal.between(q.into()))
            .collect();
        match ideal.values.iter().position(|v| v.is_nan()) {
            None => Ok(ideal),
            Some(at) => Err(LutError::NotFinite {
                function: spec.function.name(),
                input: f64::from(spec.input.qmin() + at as i32) * spec.input_scale.to_f64(),
            }),
        }
    }

    /// At an integer input of the format.
    fn at(&self, q: i32) -> f64 {
        self.values[(q - self.spec.input.qmin()) as usize]
    }

    /// At any position.
    fn between(&self, position: f64) -> f64 {
        let step = self.spec.input_scale.to_f64();
        let real = self.spec.function.eval_on_grid(position * step, step);
        let (qmin, qmax) = (self.spec.output.qmin(), self.spec.output.qmax());
        (real / self.spec.output_scale.to_f64()).clamp(qmin.into(), qmax.into())
    }

    fn max_error(&self, (low, high): (i32, i32), table: impl Fn(i32) -> i32) -> f64 {
        (low..=high).fold(0.0, |worst, q| {
            (f64::from(table(q)) - self.at(q)).abs().max(worst)
        })
    }
}
