//! Words and numbers for people.

/// The candidate closest to `given`, if it is close enough to be what was meant.
///
/// Jaro-Winkler at or above 0.8, as cargo and clap do it; an exact prefix counts too.
pub fn did_you_mean<'a>(
    given: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let lower = given.to_lowercase();
    candidates
        .into_iter()
        .map(|candidate| {
            let other = candidate.to_lowercase();
            let mut score = strsim::jaro_winkler(&lower, &other);
            if !lower.is_empty() && (other.starts_with(&lower) || lower.starts_with(&other)) {
                score = score.max(0.85);
            }
            (score, candidate)
        })
        .filter(|(score, _)| *score >= 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}

/// The word that was meant if one letter is wrong, missing, too much or in its neighbour's place: less than
/// [`did_you_mean`], where what is not known may be right.
pub fn one_slip<'a>(given: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let lower = given.to_lowercase();
    candidates
        .into_iter()
        .find(|word| strsim::damerau_levenshtein(&lower, &word.to_lowercase()) == 1)
}

/// `1204551` → `1,204,551`.
pub fn grouped(number: impl Into<i128>) -> String {
    let number: i128 = number.into();
    let digits = number.unsigned_abs().to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3 + 1);
    if number < 0 {
        out.push('-');
    }
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `1 record`, `3,204 records`.
pub fn counted(number: impl Into<i128>, noun: &str) -> String {
    let number: i128 = number.into();
    if number == 1 {
        return format!("1 {noun}");
    }
    let (stem, ending) = match noun.strip_suffix('y') {
        Some(stem) if !stem.ends_with(['a', 'e', 'o', 'u']) => (stem, "ies"),
        _ => (noun, "s"),
    };
    format!("{} {stem}{ending}", grouped(number))
}

/// The first `most` of some sentences, and how many more there are of that noun.
pub fn first_few(mut sentences: Vec<String>, most: usize, noun: &str) -> Vec<String> {
    if sentences.len() > most + 1 {
        let more = counted((sentences.len() - most) as i128, &format!("more {noun}"));
        sentences.truncate(most);
        sentences.push(format!("and {more}, all of them in the report"));
    }
    sentences
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_offered_and_a_far_one_is_not() {
        let names = ["before", "since", "topics", "filter"];
        assert_eq!(did_you_mean("befor", names), Some("before"));
        assert_eq!(did_you_mean("topic", names), Some("topics"));
        assert_eq!(did_you_mean("xyzzy", names), None);
    }

    #[test]
    fn numbers_are_grouped_and_nouns_counted() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(-1204551), "-1,204,551");
        assert_eq!(counted(1, "record"), "1 record");
        assert_eq!(counted(1000, "record"), "1,000 records");
        assert_eq!(counted(2, "entry"), "2 entries");
        assert_eq!(counted(2, "day"), "2 days");
    }

    #[test]
    fn many_sentences_become_a_few() {
        let all: Vec<String> = (0..5).map(|n| n.to_string()).collect();
        assert_eq!(first_few(all.clone(), 4, "partition"), all);
        assert_eq!(
            first_few(all, 2, "partition"),
            ["0", "1", "and 3 more partitions, all of them in the report"]
        );
    }
}
