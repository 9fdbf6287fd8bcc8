//! The ops port from outside: plain HTTP/1.1 by hand, and OpenMetrics text read strictly, so that
//! what Prometheus would refuse fails a test.

use std::{
    collections::BTreeMap,
    io::{Read as _, Write as _},
    net::TcpStream,
    time::Duration,
};

/// An HTTP answer.
#[derive(Debug)]
pub struct Answer {
    /// 200, 503 …
    pub status: u16,
    /// The status line and the headers.
    pub head: String,
    /// What follows the head.
    pub body: String,
}

/// `GET path` of the ops port at "HOST:PORT".
///
/// # Panics
/// When nothing answers, or not in HTTP.
pub fn get(address: &str, path: &str) -> Answer {
    get_with(address, path, &[])
}

/// The same of any such port, with further headers.
///
/// # Panics
/// As [`get`].
pub fn get_with(address: &str, path: &str, headers: &[(&str, String)]) -> Answer {
    let headers = headers
        .iter()
        .map(|(name, value)| format!("{name}: {value}\r\n"));
    let headers: String = headers.collect();
    let mut stream = TcpStream::connect(address).unwrap();
    let patience = Some(Duration::from_secs(30));
    stream.set_read_timeout(patience).unwrap();
    // In HTTP/1.0 a body that comes bit by bit is told as it is.
    let request = format!("GET {path} HTTP/1.0\r\nHost: localhost\r\n{headers}\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    let status = head.split(' ').nth(1).expect("a status line");
    Answer {
        status: status.parse().unwrap(),
        head: head.to_owned(),
        body: body.to_owned(),
    }
}

/// One scrape of /metrics.
#[derive(Debug)]
pub struct Scrape {
    /// Sample name with its labels sorted, `name{a="b"}`, to its value.
    samples: BTreeMap<(String, BTreeMap<String, String>), f64>,
}

impl Scrape {
    /// Scrapes the port at `address`.
    ///
    /// # Panics
    /// When the text is not sound OpenMetrics: a sample without a described family, a name or label
    /// twice, a value that is no number, a histogram that does not add up, or no end.
    pub fn of(address: &str) -> Self {
        let answer = get(address, "/metrics");
        assert_eq!(answer.status, 200, "{}", answer.body);
        Self::parse(&answer.body)
    }

    /// Reads a text.
    ///
    /// # Panics
    /// As [`Scrape::of`].
    pub fn parse(text: &str) -> Self {
        let text = text.strip_suffix("# EOF\n").expect("ends with # EOF");
        let mut types: BTreeMap<String, String> = BTreeMap::new();
        let mut samples = BTreeMap::new();
        for line in text.lines() {
            if let Some(described) = line.strip_prefix("# TYPE ") {
                let (name, kind) = described.split_once(' ').expect(line);
                let again = types.insert(name.to_owned(), kind.to_owned());
                assert!(again.is_none(), "family twice: {line}");
                continue;
            }
            if line.starts_with("# HELP ") || line.starts_with("# UNIT ") {
                continue;
            }
            let (key, value) = line.rsplit_once(' ').expect(line);
            let (name, labels) = key_of(key);
            let described = types
                .iter()
                .any(|(family, kind)| belongs(&name, family, kind));
            assert!(described, "no family for {line}");
            let value: f64 = value.parse().expect(line);
            let again = samples.insert((name, labels), value);
            assert!(again.is_none(), "sample twice: {line}");
        }
        let scrape = Self { samples };
        scrape.check_histograms(&types);
        scrape
    }

    /// The sum of all samples called `name` that have all these labels; 0 where there is none.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let wanted = |found: &BTreeMap<String, String>| {
            labels
                .iter()
                .all(|(key, value)| found.get(*key).is_some_and(|found| found == value))
        };
        let matching = self.samples.iter();
        matching
            .filter(|((found, with), _)| found == name && wanted(with))
            .map(|(_, value)| value)
            .sum()
    }

    /// Number of series.
    pub fn series(&self) -> usize {
        self.samples.len()
    }

    /// Buckets grow, and the last one holds everything.
    fn check_histograms(&self, types: &BTreeMap<String, String>) {
        for family in types.iter().filter(|(_, kind)| *kind == "histogram") {
            let (bucket, count) = (
                format!("{}_bucket", family.0),
                format!("{}_count", family.0),
            );
            let mut last: BTreeMap<BTreeMap<String, String>, Vec<(f64, f64)>> = BTreeMap::new();
            for ((name, labels), value) in &self.samples {
                if *name == bucket {
                    let mut labels = labels.clone();
                    let bound = labels.remove("le").expect("a bucket has a bound");
                    let bound = bound.parse().expect("a bound is a number or +Inf");
                    last.entry(labels).or_default().push((bound, *value));
                }
            }
            for (labels, mut buckets) in last {
                buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
                assert!(
                    buckets.is_sorted_by(|a, b| a.1 <= b.1),
                    "{bucket}{labels:?} falls: {buckets:?}"
                );
                let (bound, all) = buckets.last().copied().expect("a bucket");
                assert!(bound.is_infinite(), "{bucket}{labels:?} has no +Inf");
                assert_eq!(self.samples.get(&(count.clone(), labels)), Some(&all));
            }
        }
    }
}

fn belongs(sample: &str, family: &str, kind: &str) -> bool {
    let suffixes: &[&str] = match kind {
        "counter" => &["_total"],
        "histogram" => &["_bucket", "_count", "_sum"],
        "info" => &["_info"],
        "gauge" => &[""],
        _ => panic!("{family} has the unexpected type {kind}"),
    };
    sample
        .strip_prefix(family)
        .is_some_and(|suffix| suffixes.contains(&suffix))
}

/// `name{a="b",c="d"}`; no value in these metrics has a quote or a comma in it.
fn key_of(key: &str) -> (String, BTreeMap<String, String>) {
    let Some((name, labels)) = key.split_once('{') else {
        return (key.to_owned(), BTreeMap::new());
    };
    let labels = labels.strip_suffix('}').expect(key);
    let pairs = labels.split(',').map(|pair| {
        let (label, value) = pair.split_once('=').expect(key);
        let value = value
            .strip_prefix('"')
            .and_then(|value| value.strip_suffix('"'));
        (label.to_owned(), value.expect(key).to_owned())
    });
    let mut found = BTreeMap::new();
    for (label, value) in pairs {
        assert!(found.insert(label, value).is_none(), "label twice: {key}");
    }
    (name.to_owned(), found)
}
