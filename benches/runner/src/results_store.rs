//! The store of all results: a text file, written part by part, so that an interrupted run can be resumed.
//!
//! A line is `round`, `part`, `metric`, `client`, `value`, separated by tabs. The lines of a part count once
//! the part is finished by a line whose metric is `done`. Lines of the part `environment` have text as value:
//! where it was measured.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{ErrorKind, Write as _};
use std::path::Path;

use crate::Outcome;
use crate::stats::median;

#[derive(Default)]
pub(crate) struct ResultsStore {
    file: Option<File>,
    /// By metric and client, the value of each round.
    values: BTreeMap<(String, String), BTreeMap<usize, f64>>,
    done: BTreeSet<(usize, String)>,
    environment: Vec<(String, String)>,
    /// Metric, client and value of the part that is being measured.
    unfinished: Vec<(String, String, f64)>,
}

impl ResultsStore {
    /// Reads the results in the file, and appends new ones to it.
    pub(crate) fn open(path: &Path) -> Outcome<Self> {
        let mut store = Self::default();
        match fs::read_to_string(path) {
            Ok(text) => store.read(&text)?,
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error.into()),
        }
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        store.file = Some(File::options().create(true).append(true).open(path)?);
        Ok(store)
    }

    fn read(&mut self, text: &str) -> Outcome<()> {
        let mut unfinished = BTreeMap::new();
        for line in text.lines() {
            match line.split('\t').collect::<Vec<_>>()[..] {
                [_, "environment", field, "", text] => {
                    self.environment.push((field.to_owned(), text.to_owned()));
                }
                [round, part, "done", ..] => {
                    let round: usize = round.parse()?;
                    for (metric, client, value) in unfinished.remove(&(round, part)).unwrap_or_default() {
                        self.insert(round, metric, client, value);
                    }
                    self.done.insert((round, part.to_owned()));
                }
                // The part begins again, so the lines of its interrupted measurement do not count.
                [round, part, "begin", ..] => drop(unfinished.remove(&(round.parse()?, part))),
                [round, part, metric, client, value] => {
                    let entry: &mut Vec<(&str, &str, f64)> =
                        unfinished.entry((round.parse()?, part)).or_default();
                    entry.push((metric, client, value.parse()?));
                }
                _ => return Err(format!("unexpected line in the results: {line:?}").into()),
            }
        }
        Ok(())
    }

    fn insert(&mut self, round: usize, metric: &str, client: &str, value: f64) {
        self.values.entry((metric.to_owned(), client.to_owned())).or_default().insert(round, value);
    }

    pub(crate) fn is_done(&self, round: usize, part: &str) -> bool {
        self.done.contains(&(round, part.to_owned()))
    }

    /// Adds a value to the part that is being measured.
    pub(crate) fn record(&mut self, metric: &str, client: &str, value: f64) {
        self.unfinished.push((metric.to_owned(), client.to_owned(), value));
    }

    /// Writes the values of the part that is being measured, and marks it as done.
    pub(crate) fn finish_part(&mut self, round: usize, part: &str) -> Outcome<()> {
        let mut text = format!("{round}\t{part}\tbegin\t\t\n");
        for (metric, client, value) in std::mem::take(&mut self.unfinished) {
            let _ = writeln!(text, "{round}\t{part}\t{metric}\t{client}\t{value}");
            self.insert(round, &metric, &client, value);
        }
        let _ = writeln!(text, "{round}\t{part}\tdone\t\t");
        self.done.insert((round, part.to_owned()));
        self.write(&text)
    }

    pub(crate) fn note_environment(&mut self, field: &str, text: &str) -> Outcome<()> {
        self.write(&format!("0\tenvironment\t{field}\t\t{text}\n"))?;
        self.environment.push((field.to_owned(), text.to_owned()));
        Ok(())
    }

    fn write(&mut self, text: &str) -> Outcome<()> {
        if let Some(file) = &mut self.file {
            file.write_all(text.as_bytes())?;
        }
        Ok(())
    }

    /// The different texts of this field, in the order in which they were noted.
    pub(crate) fn environment(&self, field: &str) -> Vec<&str> {
        let mut texts: Vec<&str> = Vec::new();
        for (_, text) in self.environment.iter().filter(|(noted, _)| noted == field) {
            if !texts.contains(&text.as_str()) {
                texts.push(text);
            }
        }
        texts
    }

    /// The number of rounds.
    pub(crate) fn rounds(&self) -> usize {
        self.done.iter().map(|(round, _)| round + 1).max().unwrap_or(0)
    }

    /// The value of each round.
    pub(crate) fn series(&self, metric: &str, client: &str) -> Vec<f64> {
        let key = (metric.to_owned(), client.to_owned());
        self.values.get(&key).map_or_else(Vec::new, |series| series.values().copied().collect())
    }

    /// The ratio within each round, because other load on the machine in a round affects both clients.
    pub(crate) fn ratios(&self, own: (&str, &str), peer: (&str, &str)) -> Vec<f64> {
        let find = |(metric, client): (&str, &str)| self.values.get(&(metric.to_owned(), client.to_owned()));
        let (Some(own), Some(peer)) = (find(own), find(peer)) else { return Vec::new() };
        let pairs = own.iter().filter_map(|(round, own)| Some((own, peer.get(round)?)));
        pairs.map(|(own, peer)| own / peer).collect()
    }

    pub(crate) fn median(&self, metric: &str, client: &str) -> Option<f64> {
        let series = self.series(metric, client);
        (!series.is_empty()).then(|| median(series))
    }

    pub(crate) fn ratio(&self, metric: &str, own: &str, peer: &str) -> Option<f64> {
        let ratios = self.ratios((metric, own), (metric, peer));
        (!ratios.is_empty()).then(|| median(ratios))
    }

    /// The clients that have values of this metric.
    pub(crate) fn clients_in(&self, metric: &str) -> Vec<&str> {
        self.values.keys().filter(|(stored, _)| stored == metric).map(|(_, client)| client.as_str()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reopened_store_has_the_finished_parts_and_nothing_of_an_interrupted_part() {
        let file = std::env::temp_dir().join(format!("quorlock-bench-results-{}", std::process::id()));
        let mut store = ResultsStore::open(&file).expect("a new store");
        store.note_environment("machine", "a test machine").expect("the file is writable");
        store.record("acquire", "baseline", 10.0);
        store.record("acquire", "quorlock", 11.0);
        store.finish_part(0, "uncontended").expect("the file is writable");
        store.record("acquire", "baseline", 20.0);
        store.record("acquire", "quorlock", 18.0);
        store.finish_part(1, "uncontended").expect("the file is writable");
        let finished = fs::read_to_string(&file).expect("the file is readable");
        let interrupted = finished + "2\tuncontended\tbegin\t\t\n2\tuncontended\tacquire\tbaseline\t99\n";
        fs::write(&file, interrupted).expect("the file is writable");

        let reopened = ResultsStore::open(&file).expect("a valid file");
        fs::remove_file(&file).expect("the file is removable");
        assert_eq!(reopened.environment("machine"), ["a test machine"]);
        assert_eq!(reopened.series("acquire", "baseline"), [10.0, 20.0]);
        assert_eq!(reopened.ratios(("acquire", "quorlock"), ("acquire", "baseline")), [1.1, 0.9]);
        assert!(reopened.is_done(1, "uncontended") && !reopened.is_done(2, "uncontended"));
        assert_eq!(reopened.rounds(), 2);
    }

    #[test]
    fn a_ratio_uses_only_rounds_in_which_both_clients_have_values() {
        let mut store = ResultsStore::default();
        store.record("metric", "own", 3.0);
        store.finish_part(0, "part").expect("no file to write");
        store.record("metric", "own", 8.0);
        store.record("metric", "peer", 4.0);
        store.finish_part(1, "part").expect("no file to write");
        assert_eq!(store.ratio("metric", "own", "peer"), Some(2.0));
        assert_eq!(store.ratio("metric", "own", "absent"), None);
    }
}
