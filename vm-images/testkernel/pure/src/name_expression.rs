//! File names against expressions with wild cards, as file systems do it.
//!
//! `*` is any number of characters and `?` any one. Three more stand for what DOS did with the same two and a period, into which
//! programs' patterns are translated on their way down: `<` (DOS_STAR) is any number of characters up to and with the last period, `>` (DOS_QM)
//! any one or, before a period or the end, none, and `"` (DOS_DOT) a period or the end.
//!
//! Source: *FsRtlIsNameInExpression function (ntifs.h)*.

use crate::utf16;

const STAR: u16 = b'*' as u16;
const ANY: u16 = b'?' as u16;
const DOS_STAR: u16 = b'<' as u16;
const DOS_ANY: u16 = b'>' as u16;
const DOS_DOT: u16 = b'"' as u16;
const DOT: u16 = b'.' as u16;
const BACKSLASH: u16 = b'\\' as u16;

/// Whether a name has a wild card in it.
pub fn has_wild_cards(name: &[u16]) -> bool {
    name.iter().any(|unit| matches!(*unit, STAR | ANY | DOS_STAR | DOS_ANY | DOS_DOT))
}

/// Whether `name` is one of those that `expression` stands for. Where case is ignored, the expression is in upper case already, and the
/// name is made so.
pub fn matches(expression: &[u16], name: &[u16], ignore_case: bool) -> bool {
    // Which places of the expression can be reached with what was read of the name: linear in each of the two.
    let mut reached = alloc::vec![false; expression.len() + 1];
    reached[0] = true;
    skip(expression, &mut reached, name.is_empty(), name);
    for (index, unit) in name.iter().enumerate() {
        let unit = if ignore_case { utf16::upcase(*unit) } else { *unit };
        let rest = &name[index + 1..];
        let mut next = alloc::vec![false; expression.len() + 1];
        for (place, wanted) in expression.iter().enumerate().filter(|(place, _)| reached[*place]) {
            match *wanted {
                STAR => next[place] = true,
                // Not past the last period: that one ends it.
                DOS_STAR => {
                    if unit != DOT || rest.contains(&DOT) {
                        next[place] = true;
                    } else {
                        next[place + 1] = true;
                    }
                }
                ANY => next[place + 1] = true,
                DOS_ANY if unit != DOT => next[place + 1] = true,
                DOS_DOT if unit == DOT => next[place + 1] = true,
                wanted if wanted == unit => next[place + 1] = true,
                _ => {}
            }
        }
        skip(expression, &mut next, rest.is_empty(), rest);
        reached = next;
    }
    reached[expression.len()]
}

/// Reaches what can be reached without another character.
fn skip(expression: &[u16], reached: &mut [bool], at_end: bool, rest: &[u16]) {
    for (place, wanted) in expression.iter().enumerate() {
        let passes = match *wanted {
            STAR | DOS_STAR => true,
            DOS_ANY => at_end || rest.first() == Some(&DOT),
            DOS_DOT => at_end,
            _ => false,
        };
        if reached[place] && passes {
            reached[place + 1] = true;
        }
    }
}

/// The first part of a path and what is behind it, without the backslash between them.
pub fn dissect(path: &[u16]) -> (&[u16], &[u16]) {
    let path = path.strip_prefix(&[BACKSLASH]).unwrap_or(path);
    match path.iter().position(|unit| *unit == BACKSLASH) {
        Some(end) => (&path[..end], &path[end + 1..]),
        None => (path, &[]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::utf16::encode;

    fn is_in(expression: &str, name: &str) -> bool {
        matches(&encode(expression), &encode(name), true)
    }

    #[test]
    fn stars_and_question_marks() {
        assert!(is_in("*", "") && is_in("*", "anything.txt") && is_in("*.TXT", "a.b.txt"));
        assert!(is_in("A?C", "abc") && !is_in("A?C", "ac") && !is_in("A?C", "abcd"));
        assert!(is_in("", "") && !is_in("", "a") && !is_in("A", ""));
        assert!(is_in("*A*B*", "xxayybzz") && !is_in("*A*B*", "bbaa"));
        assert!(!matches(&encode("ABC"), &encode("abc"), false));
    }

    #[test]
    fn what_dos_meant() {
        // `*.` of a program becomes `<` and `.*` becomes `".*`.
        assert!(is_in("<.TXT", "a.b.txt") && is_in("<", "name") && is_in("*\"", "name"));
        assert!(is_in("A>>>.C", "ab.c") && is_in("A>>>", "a") && !is_in("A>>>", "abcde"));
        assert!(is_in("NAME\"*", "name.ext") && is_in("NAME\"*", "name"));
    }

    #[test]
    fn paths_come_apart_at_the_front() {
        let parts = |path: &str| {
            let path = encode(path);
            let (first, rest) = dissect(&path);
            (utf16::display(first), utf16::display(rest))
        };
        assert_eq!(parts(r"\A\B\C"), ("A".into(), r"B\C".into()));
        assert_eq!(parts(r"A"), ("A".into(), "".into()));
        assert_eq!(parts(r"\"), ("".into(), "".into()));
        assert!(has_wild_cards(&encode("a<b")) && !has_wild_cards(&encode("a.b")));
    }

    #[test]
    fn many_stars_end_in_time() {
        let expression = "*A".repeat(200);
        assert!(!is_in(&expression, &"a".repeat(199)));
    }
}
