//! `docs/operators.md` says of every operator of ONNX what the table in code says.
//! DUAL16_WRITE_DOCS=1 writes it.

use std::{collections::BTreeSet, env, fs, path::Path};

use dual16_quant::canonical::{Fate, Operator, operators};

const PREFACE: &str = "\
# Operators

What becomes of each operator of ONNX's standard set, any version of it. A model is brought into
[canonical form](architecture.md) first; whatever is not listed here, or is refused, fails at once with
the node's name and the reason.

| fate | meaning |
|---|---|
| integer kernel | runs in integers where its operands are quantized; in float it is run as well |
| rewritten | others stand in for it, which have fates of their own |
| float island | runs in float between dequantize and quantize, or on integers as they are |
| float island, exact | the same, by a kernel of this project, since the float engine has it not or otherwise |
| refused | no model that needs it is run |

Integers and booleans are never quantized. Float execution holds integers in 32 bits: arithmetic that
leaves them is an error that names the node; where the type is int32 or narrower, what goes element by
element wraps, as ONNX's does, and only a reduction is an error. Doubles are run in float32: what
loses too much of them, as a difference of two times in seconds since 1970, is an error that names the node
and the number. A Cast of what no integer is, as NaN, is an error too, unless nothing reads it but the choices of
a Where, as in the buckets of relative positions; and so is NaN that a Relu or a Clip is given in a calibration batch. A
Cast to float16 rounds; inside a body it does not. Inside the body of a Loop or a branch only what the float
engine runs itself is run: what is \"exact\" here is refused there, by name, and so is arithmetic on 64-bit
integers other than lengths, small constants, the number of the iteration and what a Loop only counts.
An If whose condition is constant is no branch.

| operator | fate | |
|---|---|---|
";

#[test]
fn the_table_of_operators_is_documented() {
    let row = |operator: &Operator| {
        let (fate, more) = match operator.fate {
            Fate::Kernel => ("integer kernel", String::new()),
            Fate::Rewritten(into) => ("rewritten", format!("as {into}")),
            Fate::Float => ("float island", String::new()),
            Fate::Own => ("float island, exact", String::new()),
            Fate::Refused(why) => ("refused", why.to_owned()),
        };
        format!("| {} | {fate} | {more} |\n", operator.name)
    };
    let rows: BTreeSet<String> = operators().iter().map(row).collect();
    assert_eq!(rows.len(), operators().len(), "an operator is there twice");
    let wanted = format!("{PREFACE}{}", rows.into_iter().collect::<String>());
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/operators.md");
    if env::var_os("DUAL16_WRITE_DOCS").is_some() {
        fs::write(&path, &wanted).unwrap();
    }
    let found = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == wanted,
        "docs/operators.md is not what the table says; DUAL16_WRITE_DOCS=1 writes it"
    );
}
