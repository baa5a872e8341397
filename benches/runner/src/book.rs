//! All figures, kept in a file as they come in, so that a run that was broken off can go on.
//!
//! A line is `round`, `part`, `row`, `who`, `figure`, with tabs between them. A part of a round counts once it is closed by a
//! line whose row is `done`. Lines of the part `about` have words for a figure: where it was measured.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{ErrorKind, Write as _};
use std::path::Path;

use crate::Outcome;
use crate::figures::median;

#[derive(Default)]
pub(crate) struct Book {
    file: Option<File>,
    figures: BTreeMap<(String, String), BTreeMap<usize, f64>>,
    done: BTreeSet<(usize, String)>,
    about: Vec<(String, String)>,
    /// What the part under way has so far.
    open: Vec<(String, String, f64)>,
}

impl Book {
    /// Reads what the file has, and goes on from there.
    pub(crate) fn open(path: &Path) -> Outcome<Self> {
        let mut book = Self::default();
        match fs::read_to_string(path) {
            Ok(text) => book.read(&text)?,
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error.into()),
        }
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        book.file = Some(File::options().create(true).append(true).open(path)?);
        Ok(book)
    }

    fn read(&mut self, text: &str) -> Outcome<()> {
        let mut open = BTreeMap::new();
        for line in text.lines() {
            match line.split('\t').collect::<Vec<_>>()[..] {
                [_, "about", what, "", words] => self.about.push((what.to_owned(), words.to_owned())),
                [round, part, "done", ..] => {
                    let round: usize = round.parse()?;
                    for (row, who, figure) in open.remove(&(round, part)).unwrap_or_default() {
                        self.keep(round, row, who, figure);
                    }
                    self.done.insert((round, part.to_owned()));
                }
                // What was begun before a part was broken off does not count.
                [round, part, "begin", ..] => drop(open.remove(&(round.parse()?, part))),
                [round, part, row, who, figure] => {
                    let entry: &mut Vec<(&str, &str, f64)> = open.entry((round.parse()?, part)).or_default();
                    entry.push((row, who, figure.parse()?));
                }
                _ => return Err(format!("an odd line among the figures: {line:?}").into()),
            }
        }
        Ok(())
    }

    fn keep(&mut self, round: usize, row: &str, who: &str, figure: f64) {
        self.figures.entry((row.to_owned(), who.to_owned())).or_default().insert(round, figure);
    }

    pub(crate) fn is_done(&self, round: usize, part: &str) -> bool {
        self.done.contains(&(round, part.to_owned()))
    }

    /// A figure of the part under way.
    pub(crate) fn put(&mut self, row: &str, who: &str, figure: f64) {
        self.open.push((row.to_owned(), who.to_owned(), figure));
    }

    /// The part under way is done.
    pub(crate) fn close(&mut self, round: usize, part: &str) -> Outcome<()> {
        let mut text = format!("{round}\t{part}\tbegin\t\t\n");
        for (row, who, figure) in std::mem::take(&mut self.open) {
            let _ = writeln!(text, "{round}\t{part}\t{row}\t{who}\t{figure}");
            self.keep(round, &row, &who, figure);
        }
        let _ = writeln!(text, "{round}\t{part}\tdone\t\t");
        self.done.insert((round, part.to_owned()));
        self.write(&text)
    }

    pub(crate) fn note(&mut self, what: &str, words: &str) -> Outcome<()> {
        self.write(&format!("0\tabout\t{what}\t\t{words}\n"))?;
        self.about.push((what.to_owned(), words.to_owned()));
        Ok(())
    }

    fn write(&mut self, text: &str) -> Outcome<()> {
        if let Some(file) = &mut self.file {
            file.write_all(text.as_bytes())?;
        }
        Ok(())
    }

    /// All that was noted, each thing once.
    pub(crate) fn noted(&self, what: &str) -> Vec<&str> {
        let mut words: Vec<&str> = Vec::new();
        for (_, said) in self.about.iter().filter(|(about, _)| about == what) {
            if !words.contains(&said.as_str()) {
                words.push(said);
            }
        }
        words
    }

    /// How many rounds there are.
    pub(crate) fn rounds(&self) -> usize {
        self.done.iter().map(|(round, _)| round + 1).max().unwrap_or(0)
    }

    /// A figure for each round.
    pub(crate) fn series(&self, row: &str, who: &str) -> Vec<f64> {
        let key = (row.to_owned(), who.to_owned());
        self.figures.get(&key).map_or_else(Vec::new, |series| series.values().copied().collect())
    }

    /// The rounds' own ratios: what the machine did in a round, it did to both.
    pub(crate) fn ratios(&self, ours: (&str, &str), theirs: (&str, &str)) -> Vec<f64> {
        let find = |(row, who): (&str, &str)| self.figures.get(&(row.to_owned(), who.to_owned()));
        let (Some(ours), Some(theirs)) = (find(ours), find(theirs)) else { return Vec::new() };
        let pairs = ours.iter().filter_map(|(round, ours)| Some((ours, theirs.get(round)?)));
        pairs.map(|(ours, theirs)| ours / theirs).collect()
    }

    pub(crate) fn median(&self, row: &str, who: &str) -> Option<f64> {
        let series = self.series(row, who);
        (!series.is_empty()).then(|| median(series))
    }

    pub(crate) fn ratio(&self, row: &str, ours: &str, theirs: &str) -> Option<f64> {
        let ratios = self.ratios((row, ours), (row, theirs));
        (!ratios.is_empty()).then(|| median(ratios))
    }

    /// Who has figures in this row.
    pub(crate) fn names_in(&self, row: &str) -> Vec<&str> {
        self.figures.keys().filter(|(its, _)| its == row).map(|(_, who)| who.as_str()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_book_reads_back_what_it_wrote_and_nothing_of_a_part_that_was_broken_off() {
        let file = std::env::temp_dir().join(format!("quorlock-bench-book-{}", std::process::id()));
        let mut book = Book::open(&file).expect("a new book");
        book.note("machine", "a loom").expect("a line more");
        book.put("acquire", "floor", 10.0);
        book.put("acquire", "quorlock", 11.0);
        book.close(0, "uncontended").expect("a part more");
        book.put("acquire", "floor", 20.0);
        book.put("acquire", "quorlock", 18.0);
        book.close(1, "uncontended").expect("a part more");
        let whole = fs::read_to_string(&file).expect("what was written");
        let broken_off = whole.clone() + "2\tuncontended\tbegin\t\t\n2\tuncontended\tacquire\tfloor\t99\n";
        fs::write(&file, broken_off).expect("a file that can be written");

        let read = Book::open(&file).expect("a book of before");
        fs::remove_file(&file).expect("the file goes");
        assert_eq!(read.noted("machine"), ["a loom"]);
        assert_eq!(read.series("acquire", "floor"), [10.0, 20.0]);
        assert_eq!(read.ratios(("acquire", "quorlock"), ("acquire", "floor")), [1.1, 0.9]);
        assert!(read.is_done(1, "uncontended") && !read.is_done(2, "uncontended"));
        assert_eq!(read.rounds(), 2);
    }

    #[test]
    fn a_ratio_is_of_the_rounds_that_both_have() {
        let mut book = Book::default();
        book.put("row", "ours", 3.0);
        book.close(0, "part").expect("no file to write");
        book.put("row", "ours", 8.0);
        book.put("row", "theirs", 4.0);
        book.close(1, "part").expect("no file to write");
        assert_eq!(book.ratio("row", "ours", "theirs"), Some(2.0));
        assert_eq!(book.ratio("row", "ours", "absent"), None);
    }
}
