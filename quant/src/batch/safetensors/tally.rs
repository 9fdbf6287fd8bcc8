//! Tensors of a safetensors header, counted and their names measured before any of it is kept.

use std::fmt;

use serde::{
    Deserializer as _,
    de::{DeserializeSeed, IgnoredAny, MapAccess, Visitor},
};

use crate::{
    error::{Error, Result},
    limits::InputLimits,
};

/// The one key that is no tensor.
const METADATA: &str = "__metadata__";

/// Refuses a header of too many tensors or of one with too long a name. One that is no JSON passes:
/// whoever reads it says so.
pub(super) fn check(file: &str, header: &[u8], limits: &InputLimits) -> Result<()> {
    let mut tally = Tally {
        file,
        limits,
        count: 0,
        refused: None,
    };
    let _ = serde_json::Deserializer::from_slice(header).deserialize_map(&mut tally);
    match tally.refused {
        Some(error) => Err(error),
        None => Ok(limits.check_tensors(file, tally.count)?),
    }
}

struct Tally<'a> {
    file: &'a str,
    limits: &'a InputLimits,
    count: u64,
    refused: Option<Error>,
}

impl<'de> Visitor<'de> for &mut Tally<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("tensors by name")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while map.next_key_seed(Key(&mut *self))?.is_some() {
            map.next_value::<IgnoredAny>()?;
        }
        Ok(())
    }
}

/// One key, looked at and not kept.
struct Key<'t, 'a>(&'t mut Tally<'a>);

impl<'de> DeserializeSeed<'de> for Key<'_, '_> {
    type Value = ();

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Key<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<(), E> {
        let Tally {
            file,
            limits,
            count,
            refused,
        } = self.0;
        if name == METADATA {
            return Ok(());
        }
        *count += 1;
        limits
            .check_name(file, "tensor", name.as_bytes())
            .map_err(|error| {
                *refused = Some(error.into());
                E::custom("refused")
            })
    }
}
