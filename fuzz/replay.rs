//! The inputs that fuzzing found worth keeping, for the tests that replay them.

/// Runs each input of a corpus, the text of a file in `fuzz/corpus`: one a line, in hex.
pub(crate) fn replay(corpus: &str, run: impl Fn(&[u8])) {
    assert!(!corpus.is_empty(), "the corpus is not empty");
    for line in corpus.lines() {
        let digits: Vec<&str> = (0..line.len()).step_by(2).map(|at| &line[at..at + 2]).collect();
        let input: Vec<u8> = digits.iter().map(|byte| u8::from_str_radix(byte, 16).expect("hex")).collect();
        run(&input);
    }
}
