//! A program that treats its rows one by one: it is given those that nobody has computed yet, and what comes of each is
//! kept at once, so that a crash at row 9,000 of 10,000 costs one row.

use std::{
    collections::{HashMap, HashSet},
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

use gradus_protocol::{Page, Reached};

use super::secret::Secrets;
use crate::error::RunError;

/// What is counted.
const UNIT: &str = "rows";
/// The rows of a data set, which is a folder.
const IN_FOLDER: &str = "rows.jsonl";

/// The rows of one try.
pub(super) struct Rows<'a> {
    page: Page,
    secrets: &'a Secrets,
    /// All rows, in order.
    all: Vec<Vec<u8>>,
    known: HashMap<Vec<u8>, Vec<u8>>,
    /// Those that the program is given, each once.
    given: Vec<Vec<u8>>,
    output: PathBuf,
    /// How many of these the program has answered, and where in its output the next answer begins.
    answered: usize,
    read: u64,
}

impl<'a> Rows<'a> {
    /// Leaves in the file at `input`, or in a data set's, only those rows of which `page` has nothing.
    pub(super) fn begin(
        page: Page,
        input: &Path,
        output: PathBuf,
        secrets: &'a Secrets,
    ) -> Result<Self, RunError> {
        let failed = || RunError::io("the rows for the program");
        let input = if input.is_dir() { input.join(IN_FOLDER) } else { input.to_owned() };
        let rows = lines(&fs::read(&input).map_err(failed())?);
        let mut known = HashMap::new();
        let (mut given, mut seen) = (Vec::new(), HashSet::new());
        for row in &rows {
            if !seen.insert(row) {
                continue;
            }
            match page.recall(row) {
                Some(answer) => drop(known.insert(row.clone(), answer)),
                None => given.push(row.clone()),
            }
        }
        fs::write(&input, joined(&given)).map_err(failed())?;
        Ok(Self { page, secrets, all: rows, known, given, output, answered: 0, read: 0 })
    }

    /// Whether there is something for the program to do.
    pub(super) fn is_left(&self) -> bool {
        !self.given.is_empty()
    }

    pub(super) fn reached(&self) -> Reached {
        let done = self.all.iter().filter(|row| self.known.contains_key(*row)).count();
        Reached { done: done as u64, of: self.all.len() as u64, unit: UNIT.to_owned() }
    }

    /// Keeps what the program has answered since the last time: its lines that have ended.
    pub(super) fn look(&mut self) -> io::Result<()> {
        let mut file = match File::open(&self.output) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            opened => opened?,
        };
        file.seek(SeekFrom::Start(self.read))?;
        let mut text = Vec::new();
        file.read_to_end(&mut text)?;
        let Some(end) = text.iter().rposition(|byte| *byte == b'\n') else { return Ok(()) };
        for answer in text[..end].split(|byte| *byte == b'\n') {
            self.take(answer)?;
        }
        self.read += end as u64 + 1;
        Ok(())
    }

    fn take(&mut self, answer: &[u8]) -> io::Result<()> {
        let answer = answer.trim_ascii();
        // What is too much is said at the end.
        let Some(row) = self.given.get(self.answered).filter(|_| !answer.is_empty()) else {
            return Ok(());
        };
        if self.secrets.in_bytes(answer).is_none() {
            self.page.keep(row, answer)?;
        }
        self.known.insert(row.clone(), answer.to_vec());
        self.answered += 1;
        Ok(())
    }

    /// Puts the answers to all rows where the program left those to its own.
    pub(super) fn end(mut self) -> Result<(), RunError> {
        let failed = || RunError::io("the answers to all rows");
        if self.is_left() {
            let Ok(text) = fs::read(&self.output) else { return Ok(()) };
            let answers = lines(&text);
            if answers.len() != self.given.len() {
                return Err(RunError::Stage(format!(
                    "the program was given {} rows and left {} in `{}`: it is to leave one line for each, in their order",
                    self.given.len(),
                    answers.len(),
                    self.output.file_name().unwrap_or_default().to_string_lossy()
                )));
            }
            // The file as it is in the end counts.
            self.answered = 0;
            for answer in answers {
                self.take(&answer).map_err(failed())?;
            }
        }
        let answers = self.all.iter().map(|row| &self.known[row]);
        fs::write(&self.output, joined(answers)).map_err(failed())
    }
}

/// Lines with something in them.
fn lines(text: &[u8]) -> Vec<Vec<u8>> {
    let lines = text.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    lines.filter(|line| !line.is_empty()).map(<[u8]>::to_vec).collect()
}

fn joined<'a>(lines: impl IntoIterator<Item = &'a Vec<u8>>) -> Vec<u8> {
    let mut text = Vec::new();
    for line in lines {
        text.extend_from_slice(line);
        text.push(b'\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Place(tempfile::TempDir);

    impl Place {
        fn begin<'a>(&self, rows: &str, secrets: &'a Secrets) -> Rows<'a> {
            fs::write(self.0.path().join("in"), rows).unwrap();
            let page = Page::new(Some(&self.0.path().join("ledger")), false, "judge");
            let _ = fs::remove_file(self.0.path().join("out"));
            Rows::begin(page, &self.0.path().join("in"), self.0.path().join("out"), secrets)
                .unwrap()
        }

        fn given(&self) -> String {
            fs::read_to_string(self.0.path().join("in")).unwrap()
        }

        fn write(&self, answers: &str) {
            fs::write(self.0.path().join("out"), answers).unwrap();
        }

        fn out(&self) -> String {
            fs::read_to_string(self.0.path().join("out")).unwrap()
        }
    }

    #[test]
    fn a_row_is_given_once_and_what_broke_off_goes_on() {
        let (place, secrets) = (Place(tempfile::tempdir().unwrap()), Secrets::default());
        let mut rows = place.begin("a\nb\n\na\nc\n", &secrets);
        assert_eq!(place.given(), "a\nb\nc\n");
        place.write("A\nB\nhal");
        rows.look().unwrap();
        assert_eq!((rows.reached().done, rows.reached().of), (3, 4));
        drop(rows);
        let mut rows = place.begin("a\nb\na\nc\nd\n", &secrets);
        assert_eq!(place.given(), "c\nd\n");
        place.write("C\n");
        rows.look().unwrap();
        place.write("C\nD\n");
        rows.look().unwrap();
        rows.end().unwrap();
        assert_eq!(place.out(), "A\nB\nA\nC\nD\n");
        let rows = place.begin("d\na\n", &secrets);
        assert!(!rows.is_left());
        rows.end().unwrap();
        assert_eq!(place.out(), "D\nA\n");
    }

    #[test]
    fn too_few_or_too_many_answers_are_refused() {
        for answers in ["A\n", "A\nB\nC\n"] {
            let (place, secrets) = (Place(tempfile::tempdir().unwrap()), Secrets::default());
            let rows = place.begin("a\nb\n", &secrets);
            place.write(answers);
            let error = rows.end().unwrap_err().to_string();
            assert!(error.contains("given 2 rows and left"), "{error}");
        }
    }
}
