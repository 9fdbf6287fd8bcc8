//! Tables that fit where they are shown. A number or an id is never broken: what has no room is left
//! out by column, the least needed first, and that is said. Off a terminal everything is shown.

use anstyle::Style;

use super::{
    terminal::Paint,
    wrap::{shortened, width_of, wrapped},
};

/// The least that a shortened name gets.
const NAME: usize = 20;
/// The least that wrapped text gets.
const TEXT: usize = 20;

/// How a column takes less room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Not at all; it stands on the left.
    Word,
    /// Not at all; it stands on the right.
    Number,
    /// Shortened in the middle.
    Name,
    /// Wrapped at words.
    Text,
}

/// A column's title and how it behaves.
#[derive(Debug, Clone)]
pub(super) struct Column {
    title: String,
    kind: Kind,
    /// Columns with the lowest number go first; 0 = it stays.
    drop: u8,
}

/// Words and ids.
pub(super) fn word(title: &str) -> Column {
    Column::new(title, Kind::Word)
}

/// Numbers.
pub(super) fn number(title: &str) -> Column {
    Column::new(title, Kind::Number)
}

/// Names that may be long.
pub(super) fn name(title: &str) -> Column {
    Column::new(title, Kind::Name)
}

/// Sentences.
pub(super) fn text(title: &str) -> Column {
    Column::new(title, Kind::Text)
}

impl Column {
    fn new(title: &str, kind: Kind) -> Self {
        Self {
            title: title.to_owned(),
            kind,
            drop: 0,
        }
    }

    /// May be left out, those with a lower `rank` first.
    pub(super) fn may_go(self, rank: u8) -> Self {
        Self { drop: rank, ..self }
    }

    fn least(&self, natural: usize) -> usize {
        match self.kind {
            Kind::Word | Kind::Number => natural,
            Kind::Name => natural.min(NAME),
            Kind::Text => natural.min(TEXT),
        }
    }
}

/// A cell's text and its style.
#[derive(Debug, Clone, Default)]
pub(super) struct Cell {
    text: String,
    style: Style,
}

impl Cell {
    /// The same in a style.
    pub(super) fn styled(self, style: Style) -> Self {
        Self { style, ..self }
    }
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        let text = text.into();
        let style = Style::new();
        Self { text, style }
    }
}

/// A table.
#[derive(Debug)]
pub(super) struct Grid {
    columns: Vec<Column>,
    rows: Vec<Vec<Cell>>,
}

impl Grid {
    pub(super) fn new(columns: impl IntoIterator<Item = Column>) -> Self {
        Self {
            columns: columns.into_iter().collect(),
            rows: Vec::new(),
        }
    }

    /// Adds a row, a cell for each column.
    pub(super) fn row(&mut self, cells: impl IntoIterator<Item = Cell>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// The table as text, without a line end.
    pub(super) fn render(&self, paint: Paint) -> String {
        let natural: Vec<usize> = (0..self.columns.len()).map(|at| self.natural(at)).collect();
        let (kept, widths) = self.fit(&natural, paint.width());
        let mut lines = Vec::with_capacity(self.rows.len() + 2);
        let titles: Vec<Cell> = self
            .columns
            .iter()
            .map(|column| column.title.as_str().into())
            .collect();
        self.lines(&titles, &kept, &widths, paint, &mut lines);
        let rule: Vec<_> = widths.iter().map(|width| "-".repeat(width + 2)).collect();
        lines.push(format!("|{}|", rule.join("|")));
        for row in &self.rows {
            self.lines(row, &kept, &widths, paint, &mut lines);
        }
        let gone: Vec<_> = (0..self.columns.len())
            .filter(|at| !kept.contains(at))
            .map(|at| self.columns[at].title.as_str())
            .collect();
        if !gone.is_empty() {
            let remark = format!("no room here for: {}", gone.join(", "));
            lines.push(paint.faint(&wrapped(&remark, paint.width(), 2)));
        }
        lines.join("\n")
    }

    /// The same below a title and above remarks.
    pub(super) fn titled(
        &self,
        title: &str,
        remarks: impl IntoIterator<Item = String>,
        paint: Paint,
    ) -> String {
        let mut lines = vec![wrapped(title, paint.width(), 0), self.render(paint)];
        lines.extend(remarks);
        lines.join("\n")
    }

    fn natural(&self, column: usize) -> usize {
        let cells = self.rows.iter().filter_map(|row| row.get(column));
        let texts = cells.flat_map(|cell| cell.text.split('\n'));
        let title = self.columns[column].title.as_str();
        texts.chain([title]).map(width_of).max().unwrap_or(0)
    }

    /// The columns that stay, and the width of each.
    fn fit(&self, natural: &[usize], room: Option<usize>) -> (Vec<usize>, Vec<usize>) {
        let mut kept: Vec<usize> = (0..natural.len()).collect();
        let Some(room) = room else {
            return (kept, natural.to_vec());
        };
        let total = |kept: &[usize], width: &dyn Fn(usize) -> usize| -> usize {
            kept.iter().map(|&at| width(at) + 3).sum::<usize>() + 1
        };
        let least = |at: usize| self.columns[at].least(natural[at]);
        while total(&kept, &least) > room {
            let droppable = kept.iter().rev().filter(|&&at| self.columns[at].drop > 0);
            let Some(&first) = droppable.min_by_key(|&&at| self.columns[at].drop) else {
                break;
            };
            kept.retain(|&at| at != first);
        }
        let mut over = total(&kept, &|at| natural[at]).saturating_sub(room);
        let mut widths = natural.to_vec();
        for kind in [Kind::Text, Kind::Name] {
            for &at in kept.iter().filter(|&&at| self.columns[at].kind == kind) {
                let less = over.min(natural[at] - least(at));
                widths[at] -= less;
                over -= less;
            }
        }
        let widths = kept.iter().map(|&at| widths[at]).collect();
        (kept, widths)
    }

    /// One row, which wrapped text makes several lines.
    fn lines(
        &self,
        row: &[Cell],
        kept: &[usize],
        widths: &[usize],
        paint: Paint,
        lines: &mut Vec<String>,
    ) {
        let cells: Vec<Vec<String>> = kept
            .iter()
            .zip(widths)
            .map(|(&at, &width)| {
                let text = row.get(at).map_or("", |cell| cell.text.as_str());
                match self.columns[at].kind {
                    Kind::Name => vec![shortened(text, width).into_owned()],
                    Kind::Text => wrapped(text, Some(width), 0)
                        .split('\n')
                        .map(str::to_owned)
                        .collect(),
                    Kind::Word | Kind::Number => vec![text.to_owned()],
                }
            })
            .collect();
        for index in 0..cells.iter().map(Vec::len).max().unwrap_or(0) {
            let mut line = String::from("|");
            for ((texts, &width), &at) in cells.iter().zip(widths).zip(kept) {
                let text = texts.get(index).map_or("", String::as_str);
                let space = " ".repeat(width.saturating_sub(width_of(text)));
                let style = row.get(at).map_or(Style::new(), |cell| cell.style);
                let text = paint.styled(style, text);
                line += &match self.columns[at].kind {
                    Kind::Number => format!(" {space}{text} |"),
                    _ => format!(" {text}{space} |"),
                };
            }
            lines.push(line);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grid() -> Grid {
        let mut grid = Grid::new([
            name("layer"),
            word("way"),
            number("SQNR").may_go(2),
            number("bits").may_go(1),
        ]);
        let layer = "encoder.layer.0.attention.self.query";
        grid.row([layer.into(), "a16w8".into(), "43.6".into(), "27".into()]);
        grid
    }

    #[test]
    fn off_a_terminal_everything_is_shown() {
        assert_eq!(
            grid().render(Paint::plain(None)),
            "| layer                                | way   | SQNR | bits |\n\
             |--------------------------------------|-------|------|------|\n\
             | encoder.layer.0.attention.self.query | a16w8 | 43.6 |   27 |"
        );
    }

    #[test]
    fn names_shrink_before_columns_go_and_numbers_stay_whole() {
        let text = grid().render(Paint::plain(Some(60)));
        assert!(text.lines().all(|line| width_of(line) <= 60), "{text}");
        assert!(text.contains("43.6") && text.contains("27"), "{text}");
        assert!(text.contains('…') && text.contains("self.query"), "{text}");

        let text = grid().render(Paint::plain(Some(45)));
        assert!(text.lines().all(|line| width_of(line) <= 45), "{text}");
        assert!(text.contains("43.6") && !text.contains("27"), "{text}");
        assert!(text.ends_with("no room here for: bits"), "{text}");
    }

    #[test]
    fn text_wraps_at_words_and_an_id_is_never_broken() {
        let id = "jobs/01a21e55-0000-7000-8000-000000000000";
        let mut grid = Grid::new([word("job"), text(id)]);
        grid.row([
            "error".into(),
            "no Linear layer has this name\nand no other".into(),
        ]);
        let shown = grid.render(Paint::plain(Some(40)));
        assert!(shown.contains(id), "{shown}");
        assert!(shown.contains("and no other"), "{shown}");
    }
}
