//! What settings may call each operation of a model.

use serde::{Deserialize, Serialize};

use super::{Grid, Paint, cut, name, text};

const LINEAR: &str = "Linear";

/// One operation.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Named {
    name: String,
    /// "Linear", or the ONNX operator.
    op: String,
    /// PyTorch module; empty at the root or where nothing tells it.
    #[serde(default)]
    module: String,
    /// The module's path is a name of this operation.
    is_module: bool,
    /// ONNX nodes.
    nodes: Vec<String>,
    /// Values those nodes make.
    outputs: Vec<String>,
    /// What can run in its stead.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    remedies: Vec<String>,
    /// Name by module and running number, where it is another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    scoped: Option<String>,
}

pub(super) fn tables(names: &[Named], paint: Paint) -> String {
    let (linears, others): (Vec<&Named>, Vec<&Named>) =
        names.iter().partition(|named| named.op == LINEAR);
    let tables = [(LINEAR, linears), ("other operation", others)]
        .into_iter()
        .filter(|(_, rows)| !rows.is_empty())
        .map(|(heading, rows)| table(heading, &rows, paint));
    tables.collect::<Vec<_>>().join("\n\n")
}

/// The operators that something can run in the stead of, and what, the first `top` of them.
pub(super) fn remedies(names: &[Named], top: usize, paint: Paint) -> Option<String> {
    let named = names.iter().filter(|named| !named.remedies.is_empty());
    let named: Vec<&Named> = named.collect();
    if named.is_empty() {
        return None;
    }
    let mut grid = Grid::new([name("operator"), text("legal remedies")]);
    let (rows, more) = cut(&named, top);
    for named in rows {
        grid.row([named.name.as_str().into(), named.remedies.join(" ").into()]);
    }
    let lines = std::iter::once(grid.render(paint)).chain(more);
    Some(lines.collect::<Vec<_>>().join("\n"))
}

fn table(heading: &str, rows: &[&Named], paint: Paint) -> String {
    // Most models have no such names.
    let any_scoped = rows.iter().any(|named| named.scoped.is_some());
    let mut columns = vec![
        name(heading),
        text("module path"),
        text("node"),
        text("outputs"),
    ];
    columns.extend(any_scoped.then(|| text("also")));
    let mut grid = Grid::new(columns);
    for named in rows {
        let mut row = vec![
            named.name.as_str().into(),
            named.module.as_str().into(),
            named.nodes.join(", ").into(),
            named.outputs.join(", ").into(),
        ];
        row.extend(any_scoped.then(|| named.scoped.clone().unwrap_or_default().into()));
        grid.row(row);
    }
    grid.render(paint)
}

pub(super) fn json(names: &[Named]) -> String {
    format!("{:#}", serde_json::json!({ "names": names }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::Terminal;

    fn names() -> Vec<Named> {
        let text = r#"[
            {"name": "a.out_proj", "op": "Linear", "module": "a.out_proj", "is_module": true,
             "nodes": ["node_MatMul_1", "node_linear_1"], "outputs": ["val_1", "linear_1"],
             "scoped": "a.linear_1"},
            {"name": "/Softmax", "op": "Softmax", "is_module": false, "nodes": ["/Softmax"],
             "outputs": ["y"], "remedies": ["two_tables", "division"]}]"#;
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn linears_come_first_with_every_alias() {
        let text = tables(&names(), Terminal::plain().stdout_paint());
        let lines: Vec<Vec<&str>> = text
            .lines()
            .map(|line| {
                line.split('|')
                    .map(str::trim)
                    .filter(|cell| !cell.is_empty())
                    .collect()
            })
            .collect();
        assert_eq!(
            lines[0],
            ["Linear", "module path", "node", "outputs", "also"]
        );
        assert_eq!(
            lines[2],
            [
                "a.out_proj",
                "a.out_proj",
                "node_MatMul_1, node_linear_1",
                "val_1, linear_1",
                "a.linear_1"
            ]
        );
        assert_eq!(
            lines[4],
            ["other operation", "module path", "node", "outputs"]
        );
        assert_eq!(lines[6], ["/Softmax", "/Softmax", "y"]);
    }

    #[test]
    fn operators_stand_beside_what_can_run_in_their_stead() {
        let paint = Terminal::plain().stdout_paint();
        let text = remedies(&names(), 0, paint).unwrap();
        assert!(text.contains("legal remedies"), "{text}");
        assert!(
            text.contains("/Softmax") && text.contains("two_tables division"),
            "{text}"
        );
        assert!(!text.contains("out_proj"), "{text}");
        assert_eq!(remedies(&names()[..1], 0, paint), None);
    }

    #[test]
    fn json_has_what_was_read() {
        let json: serde_json::Value = serde_json::from_str(&json(&names())).unwrap();
        let read: Vec<Named> = serde_json::from_value(json["names"].clone()).unwrap();
        assert_eq!(read, names());
    }
}
