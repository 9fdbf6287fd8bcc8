//! Reads one file of `tests/data`. Panics with the tensor's name: this is a test.

use std::path::Path;

use dual16_nash::Scale;
use safetensors::{Dtype, SafeTensors};

/// A safetensors file in memory.
pub(crate) struct Golden(Vec<u8>);

/// Element types that golden files hold.
pub(crate) trait Element: Sized {
    const STORED_AS: Dtype;
    fn from_le(bytes: &[u8]) -> Self;
}

macro_rules! element {
    ($($ty:ty => $dtype:ident),*) => {$(
        impl Element for $ty {
            const STORED_AS: Dtype = Dtype::$dtype;
            fn from_le(bytes: &[u8]) -> Self {
                Self::from_le_bytes(bytes.try_into().unwrap())
            }
        }
    )*};
}

element!(i8 => I8, i16 => I16, i32 => I32, i64 => I64, f32 => F32, f64 => F64);

impl Golden {
    pub(crate) fn open(name: &str) -> Self {
        Self::read(&format!("golden/{name}.safetensors"))
    }

    /// A path under `tests/data`.
    pub(crate) fn read(path: &str) -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../tests/data")
            .join(path);
        Self(std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display())))
    }

    pub(crate) fn tensor<T: Element>(&self, name: &str) -> Vec<T> {
        let file = SafeTensors::deserialize(&self.0).unwrap();
        let view = file.tensor(name).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(view.dtype(), T::STORED_AS, "{name}");
        view.data()
            .chunks_exact(size_of::<T>())
            .map(T::from_le)
            .collect()
    }

    pub(crate) fn shape<const N: usize>(&self, name: &str) -> [usize; N] {
        let file = SafeTensors::deserialize(&self.0).unwrap();
        let view = file.tensor(name).unwrap_or_else(|e| panic!("{name}: {e}"));
        view.shape()
            .try_into()
            .unwrap_or_else(|_| panic!("{name}: rank {}", view.shape().len()))
    }

    /// The only element of a tensor.
    pub(crate) fn one<T: Element + Copy>(&self, name: &str) -> T {
        let all = self.tensor(name);
        assert_eq!(all.len(), 1, "{name}");
        all[0]
    }

    pub(crate) fn scale(&self, name: &str) -> Scale {
        Scale::new(self.one(name)).unwrap()
    }

    pub(crate) fn scales(&self, name: &str) -> Vec<Scale> {
        self.tensor(name)
            .into_iter()
            .map(|s| Scale::new(s).unwrap())
            .collect()
    }
}
