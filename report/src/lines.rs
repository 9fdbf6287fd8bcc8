//! Tables of comma-separated values, as the artifacts have them: a header, quotes where a field needs them,
//! doubled inside.

use serde_json::{Value, json};

/// `{"columns": [..], "rows": [[..], ..]}`; a field that reads as a finite number is one, an empty one is
/// null.
///
/// # Errors
/// The line that has another number of fields than the header, or a quote without its end.
pub(super) fn table(text: &str) -> Result<Value, String> {
    let mut records = records(text)?.into_iter();
    let columns = records.next().unwrap_or_default();
    let mut rows = Vec::new();
    for (index, record) in records.enumerate() {
        if record.len() != columns.len() {
            return Err(format!(
                "record {} has {} fields; its header has {}",
                index + 2,
                record.len(),
                columns.len()
            ));
        }
        rows.push(record.iter().map(|text| value(text)).collect::<Vec<_>>());
    }
    Ok(json!({"columns": columns, "rows": rows}))
}

fn value(field: &str) -> Value {
    match field.parse::<f64>() {
        _ if field.is_empty() => Value::Null,
        Ok(number) if number.is_finite() => json!(number),
        _ => json!(field),
    }
}

fn records(text: &str) -> Result<Vec<Vec<String>>, String> {
    let (mut records, mut record, mut field) = (Vec::new(), Vec::new(), String::new());
    let mut quoted = false;
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match (quoted, character) {
            (true, '"') if characters.peek() == Some(&'"') => {
                characters.next();
                field.push('"');
            }
            (true, '"') => quoted = false,
            (true, other) => field.push(other),
            (false, '"') if field.is_empty() => quoted = true,
            (false, ',') => record.push(std::mem::take(&mut field)),
            (false, '\n') => {
                record.push(std::mem::take(&mut field));
                records.push(std::mem::take(&mut record));
            }
            (false, '\r') if characters.peek() == Some(&'\n') => {}
            (false, other) => field.push(other),
        }
    }
    if quoted {
        return Err("a quote has no end".to_owned());
    }
    if !(field.is_empty() && record.is_empty()) {
        record.push(field);
        records.push(record);
    }
    Ok(records)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_numbers_and_quoted_names_stay_whole() {
        let text = "name,dB,shape\n\"a,\"\"b\"\"\n\",1.5,4*2\nplain,,7\n";
        let expected = json!({
            "columns": ["name", "dB", "shape"],
            "rows": [["a,\"b\"\n", 1.5, "4*2"], ["plain", null, 7.0]],
        });
        assert_eq!(table(text).unwrap(), expected);
    }

    #[test]
    fn a_broken_table_says_where() {
        assert!(table("a,b\n1\n").unwrap_err().contains("record 2"));
        assert!(table("a\n\"x\n").unwrap_err().contains("quote"));
    }
}
