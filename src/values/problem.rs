use std::fmt;

/// What is wrong, in the user's words, and what to do about it.
///
/// A `Problem` knows no place: whoever knows the place in the configuration adds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// One sentence without a full stop, such as ``unknown upstream `ordres` ``.
    pub what: String,
    /// What the user can do, such as ``did you mean `orders`?``.
    pub remedy: Option<String>,
}

impl Problem {
    /// A problem whose remedy is plain from what is wrong.
    pub fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), remedy: None }
    }

    /// Adds what the user can do about it.
    #[must_use]
    pub fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }

    /// An unknown name, with the nearest known one as the remedy.
    ///
    /// `kind` is the word for what was looked for, such as `upstream`.
    pub fn unknown<'a>(kind: &str, name: &str, known: impl IntoIterator<Item = &'a str>) -> Self {
        let problem = Self::new(format!("unknown {kind} `{name}`"));
        let mut known: Vec<&str> = known.into_iter().collect();
        known.sort_unstable();
        match nearest(name, known.iter().copied()) {
            Some(near) => problem.remedy(format!("did you mean `{near}`?")),
            None if known.is_empty() => problem.remedy(format!("no {kind} is defined")),
            None => {
                let more = known.len().saturating_sub(8);
                known.truncate(8);
                let mut list = known.iter().map(|n| format!("`{n}`")).collect::<Vec<_>>().join(", ");
                if more > 0 {
                    list.push_str(&format!(" and {more} more"));
                }
                problem.remedy(format!("known: {list}"))
            }
        }
    }
}

/// The known name that is nearest to `name`, if one is near enough to be a typing mistake.
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let limit = (name.chars().count() / 3).max(1);
    known
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(name, candidate), candidate))
        .filter(|(distance, _)| *distance <= limit)
        .min()
        .map(|(_, candidate)| candidate)
}

/// `what (remedy)`; in the alternate form (`{:#}`) the remedy is on a second line, which is how it
/// passes through the errors of serde, which are text alone.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        match &self.remedy {
            Some(remedy) if f.alternate() => write!(f, "\n{remedy}"),
            Some(remedy) => write!(f, " ({remedy})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Problem {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_name_gets_the_nearest_one() {
        let problem = Problem::unknown("upstream", "ordres", ["orders", "users"]);
        assert_eq!(problem.to_string(), "unknown upstream `ordres` (did you mean `orders`?)");
    }

    #[test]
    fn a_name_far_from_all_lists_the_known_ones() {
        let problem = Problem::unknown("upstream", "zzz", ["orders", "users"]);
        assert_eq!(problem.to_string(), "unknown upstream `zzz` (known: `orders`, `users`)");
        let problem = Problem::unknown("upstream", "zzz", []);
        assert_eq!(problem.to_string(), "unknown upstream `zzz` (no upstream is defined)");
    }
}
