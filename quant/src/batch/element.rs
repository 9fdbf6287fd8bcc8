//! Element types of batch files, and what becomes of them: the type that a model's input has in
//! float execution. A conversion is exact or refused with the element at fault; only wider floats
//! are rounded, to f32.

use half::{bf16, f16};
use ndarray::{ArrayD, IxDyn, ShapeBuilder as _};
use safetensors::Dtype;

use crate::{
    doubles::{ADVICE, held, rounding},
    model::ElementKind,
    tensor::Datum,
};

/// Element types that are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Element {
    Bool,
    I8,
    I16,
    I32,
    I64,
    U8,
    U16,
    U32,
    U64,
    F16,
    Bf16,
    F32,
    F64,
}

/// Any element; f64 and i128 hold every one of them exactly.
#[derive(Debug, Clone, Copy)]
enum Number {
    Integer(i128),
    Float(f64),
}

/// Elements as they are in a file, exactly as many bytes as the shape needs.
pub(super) struct Encoded<'a> {
    pub(super) element: Element,
    pub(super) bytes: &'a [u8],
    pub(super) big_endian: bool,
    /// Column-major.
    pub(super) fortran: bool,
    pub(super) shape: &'a [usize],
    /// Which part of a stack this is, for the index in a message.
    pub(super) part: Option<usize>,
}

impl Element {
    pub(super) const fn bytes(self) -> usize {
        match self {
            Self::F64 | Self::I64 | Self::U64 => 8,
            Self::F32 | Self::I32 | Self::U32 => 4,
            Self::F16 | Self::Bf16 | Self::I16 | Self::U16 => 2,
            Self::Bool | Self::I8 | Self::U8 => 1,
        }
    }

    pub(super) const fn is_float(self) -> bool {
        matches!(self, Self::F16 | Self::Bf16 | Self::F32 | Self::F64)
    }

    /// From NumPy's code without the byte order. NumPy has no bfloat16: what adds it (`ml_dtypes`)
    /// saves two opaque bytes.
    pub(super) fn of_numpy(code: &str) -> Option<Element> {
        Some(match code {
            "b1" => Self::Bool,
            "i1" => Self::I8,
            "i2" => Self::I16,
            "i4" => Self::I32,
            "i8" => Self::I64,
            "u1" => Self::U8,
            "u2" => Self::U16,
            "u4" => Self::U32,
            "u8" => Self::U64,
            "f2" => Self::F16,
            "V2" => Self::Bf16,
            "f4" => Self::F32,
            "f8" => Self::F64,
            _ => return None,
        })
    }

    pub(super) fn of_safetensors(dtype: Dtype) -> Option<Element> {
        Some(match dtype {
            Dtype::BOOL => Self::Bool,
            Dtype::I8 => Self::I8,
            Dtype::I16 => Self::I16,
            Dtype::I32 => Self::I32,
            Dtype::I64 => Self::I64,
            Dtype::U8 => Self::U8,
            Dtype::U16 => Self::U16,
            Dtype::U32 => Self::U32,
            Dtype::U64 => Self::U64,
            Dtype::F16 => Self::F16,
            Dtype::BF16 => Self::Bf16,
            Dtype::F32 => Self::F32,
            Dtype::F64 => Self::F64,
            _ => return None,
        })
    }

    /// What to say of a type that is none of these.
    pub(super) fn unreadable(found: &str) -> String {
        let shown: String = found.chars().take(32).collect();
        format!(
            "its dtype is none of float32, float64, float16, bfloat16, bool and integers of 8 to \
             64 bits: it is {shown}"
        )
    }
}

impl Number {
    fn to_f32(self) -> Option<f32> {
        match self {
            Self::Float(x) => Some(x as f32),
            Self::Integer(i) => Some(i as f32).filter(|&x| x as i128 == i),
        }
    }

    fn to_f64(self) -> f64 {
        match self {
            Self::Float(x) => x,
            Self::Integer(i) => i as f64,
        }
    }

    fn to_integer(self) -> Option<i128> {
        match self {
            Self::Integer(i) => Some(i),
            // Beyond, a cast would saturate; no input holds such a number anyway.
            Self::Float(x) => (x.fract() == 0.0 && x.abs() < 1e18).then_some(x as i128),
        }
    }
}

impl Encoded<'_> {
    /// The elements, row-major, as an input of this kind takes them.
    pub(super) fn decode(&self, kind: ElementKind) -> Result<Datum, String> {
        let integer = |number: Number| {
            let range = kind.range();
            number.to_integer().filter(|i| range.contains(i))
        };
        match kind {
            ElementKind::F32 => self.array(kind, Number::to_f32).map(Datum::F32),
            ElementKind::F64 => self.doubles().map(Datum::F32),
            ElementKind::I8 => self
                .array(kind, |number| i8::try_from(integer(number)?).ok())
                .map(Datum::I8),
            ElementKind::U8 => self
                .array(kind, |number| u8::try_from(integer(number)?).ok())
                .map(Datum::U8),
            _ => self
                .array(kind, |number| i32::try_from(integer(number)?).ok())
                .map(Datum::I32),
        }
    }

    /// Doubles in f32, or that this loses too much.
    fn doubles(&self) -> Result<ArrayD<f32>, String> {
        let exact = self.array(ElementKind::F64, |number| Some(number.to_f64()))?;
        match rounding(exact.iter().copied()) {
            Some(lost) => Err(format!(
                "it is an input of doubles, and float32, in which it is run, is too narrow: {lost}; {ADVICE}"
            )),
            None => Ok(exact.mapv(held)),
        }
    }

    fn array<T: Clone>(
        &self,
        kind: ElementKind,
        accept: impl Fn(Number) -> Option<T>,
    ) -> Result<ArrayD<T>, String> {
        use Number::{Float, Integer};
        let elements = match self.element {
            Element::Bool => self.each(|[byte]: [u8; 1]| Integer((byte != 0).into()), accept),
            Element::I8 => self.each(|b| Integer(i8::from_le_bytes(b).into()), accept),
            Element::I16 => self.each(|b| Integer(i16::from_le_bytes(b).into()), accept),
            Element::I32 => self.each(|b| Integer(i32::from_le_bytes(b).into()), accept),
            Element::I64 => self.each(|b| Integer(i64::from_le_bytes(b).into()), accept),
            Element::U8 => self.each(|b| Integer(u8::from_le_bytes(b).into()), accept),
            Element::U16 => self.each(|b| Integer(u16::from_le_bytes(b).into()), accept),
            Element::U32 => self.each(|b| Integer(u32::from_le_bytes(b).into()), accept),
            Element::U64 => self.each(|b| Integer(u64::from_le_bytes(b).into()), accept),
            Element::F16 => self.each(|b| Float(f16::from_le_bytes(b).into()), accept),
            Element::Bf16 => self.each(|b| Float(bf16::from_le_bytes(b).into()), accept),
            Element::F32 => self.each(|b| Float(f32::from_le_bytes(b).into()), accept),
            Element::F64 => self.each(|b| Float(f64::from_le_bytes(b)), accept),
        };
        let elements =
            elements.map_err(|(position, number)| self.misfit(position, number, kind))?;
        let shape = IxDyn(self.shape).set_f(self.fortran);
        let array = ArrayD::from_shape_vec(shape, elements)
            .map_err(|_| format!("its data does not fill its shape {:?}", self.shape))?;
        Ok(match self.fortran {
            true => array.as_standard_layout().into_owned(),
            false => array,
        })
    }

    /// Every element, or the first that is not accepted and its position in the file.
    fn each<T, const N: usize>(
        &self,
        from_le: impl Fn([u8; N]) -> Number,
        accept: impl Fn(Number) -> Option<T>,
    ) -> Result<Vec<T>, (usize, Number)> {
        let (chunks, _) = self.bytes.as_chunks::<N>();
        // Room for all at once: what grows would for a moment be there twice.
        let mut elements = Vec::with_capacity(chunks.len());
        for (position, &chunk) in chunks.iter().enumerate() {
            let mut chunk = chunk;
            if self.big_endian {
                chunk.reverse();
            }
            let number = from_le(chunk);
            elements.push(accept(number).ok_or((position, number))?);
        }
        Ok(elements)
    }

    fn misfit(&self, position: usize, number: Number, kind: ElementKind) -> String {
        let index = self.index(position);
        let held = match number {
            Number::Integer(value) => format!("it holds {value} at index {index:?}"),
            Number::Float(value) => format!("it holds {value} at index {index:?}"),
        };
        match number.to_integer() {
            _ if kind == ElementKind::F32 => {
                format!("{held}, which no float32 is exactly; the input is of floats: give it so")
            }
            None => format!("{held}; the input is of type {kind}, which holds integers alone"),
            Some(value) if i32::try_from(value).is_err() => format!(
                "{held}, which does not fit 32 bits; 64-bit integers are run in 32 bits, as far as \
                 they fit"
            ),
            Some(_) => format!("{held}, which the input's type {kind} cannot hold"),
        }
    }

    /// The index of the element at a position in the file, with the stack axis first.
    fn index(&self, position: usize) -> Vec<usize> {
        let mut rest = position;
        let mut along = |&length: &usize| {
            let length = length.max(1);
            let at = rest % length;
            rest /= length;
            at
        };
        // The axis that changes fastest comes first.
        let index: Vec<usize> = match self.fortran {
            true => self.shape.iter().map(&mut along).collect(),
            false => {
                let mut index: Vec<usize> = self.shape.iter().rev().map(&mut along).collect();
                index.reverse();
                index
            }
        };
        self.part.into_iter().chain(index).collect()
    }
}
