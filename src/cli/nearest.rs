//! The nearest right word for a wrong one.

/// The candidate with the fewest edits to `word`, when they are few for its length.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let ranked = candidates.into_iter().map(|candidate| (distance(word, candidate), candidate));
    let (edits, candidate) = ranked.min_by_key(|(edits, _)| *edits)?;
    (edits <= 1 + word.chars().count() / 4).then_some(candidate)
}

/// ` (did you mean X?)`, or nothing.
pub fn hint<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>, prefix: &str) -> String {
    nearest(word, candidates).map(|found| format!(": did you mean {prefix}{found}?")).unwrap_or_default()
}

/// Insertions, deletions, substitutions and swaps of neighbours.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for (i, row) in rows.iter_mut().enumerate() {
        row[0] = i;
    }
    rows[0] = (0..=b.len()).collect();
    for i in 1..=a.len() {
        for j in 1..=b.len() {
            let substituted = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = substituted.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            rows[i][j] = best;
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_is_found() {
        let words = ["data-dir", "node-ip", "node-name", "tls-san"];
        assert_eq!(nearest("datadir", words), Some("data-dir"));
        assert_eq!(nearest("nod-eip", words), Some("node-ip"));
        assert_eq!(nearest("flannel-backend", words), None);
        assert_eq!(hint("tls-sna", words, "--"), ": did you mean --tls-san?");
    }
}
