use super::entry::Target;
use super::*;
use crate::identity::{Consumer, Method};
use crate::retained::{Carried, Mark};
use proptest::prelude::*;

const NOW: u64 = 1_800_000_000_000;

fn read(text: &str) -> Result<Revocation, Problem> {
    let defaults = Defaults { now: NOW, until: 1_900_000_000, before_now: true };
    Written::parse(text.as_bytes()).and_then(|text| text.read(defaults))
}

fn caller(provider: Option<&str>, subject: &str, token: Option<&str>, issued: Option<u64>) -> Principal {
    Principal {
        provider: provider.map(Arc::from),
        token_id: token.map(Box::from),
        issued_at: issued,
        ..Principal::new(Method::Jwt, subject)
    }
}

#[test]
fn what_a_revocation_is_about() {
    let ann = |provider, token, issued| caller(provider, "ann", token, issued);
    for (text, refused, left) in [
        (
            r#"{"token_id":"t1"}"#,
            vec![ann(Some("a"), Some("t1"), None), caller(None, "bob", Some("t1"), Some(9))],
            vec![ann(Some("a"), Some("t2"), None), ann(Some("a"), None, None)],
        ),
        (
            r#"{"token_id":"t1","provider":"a"}"#,
            vec![ann(Some("a"), Some("t1"), None)],
            vec![ann(Some("b"), Some("t1"), None), ann(None, Some("t1"), None)],
        ),
        (
            r#"{"subject":"ann","before":"2001-09-09T01:46:40Z"}"#,
            vec![ann(Some("a"), None, Some(999_999_999)), ann(None, None, None)],
            vec![ann(Some("a"), None, Some(1_000_000_000)), caller(Some("a"), "bob", None, None)],
        ),
        (
            r#"{"subject":"ann","provider":"a"}"#,
            vec![ann(Some("a"), None, Some(NOW / 1000))],
            vec![ann(Some("a"), None, Some(NOW / 1000 + 1)), ann(Some("b"), None, None)],
        ),
    ] {
        let table = Table::of([Arc::new(read(text).unwrap())]);
        for one in refused {
            assert!(table.refuses(&one, || NOW / 1000), "{text} {one:?}");
            assert!(!table.refuses(&one, || 1_900_000_000), "its time is over: {text}");
        }
        for one in left {
            assert!(!table.refuses(&one, || NOW / 1000), "{text} {one:?}");
        }
    }
    let key = Sha256::of(b"a key");
    let table = Table::of([Arc::new(read(&format!(r#"{{"key":"{key}"}}"#)).unwrap())]);
    assert!(table.refuses_key(&key, || 0) && !table.refuses_key(&Sha256::of(b"another"), || 0));
    assert!(!table.refuses_key(&key, || 1_900_000_000));
}

#[test]
fn a_part_of_a_second_counts_as_a_whole() {
    let one = read(r#"{"subject":"ann","before":"2001-09-09T01:46:40.000000001Z"}"#).unwrap();
    assert!(matches!(one.target, Target::Subject { before: 1_000_000_001, .. }));
    let now = Defaults { now: NOW + 1, until: 0, before_now: true };
    let one = Written::parse(br#"{"subject":"ann"}"#).unwrap().read(now).unwrap();
    assert!(matches!(one.target, Target::Subject { before, .. } if before == NOW / 1000 + 1));
}

#[test]
fn what_is_none_is_told_and_not_repeated() {
    for text in [
        "",
        "[]",
        "7",
        "{}",
        "{",
        r#"{"key":"hunter2"}"#,
        r#"{"token_id":""}"#,
        r#"{"token_id":7}"#,
        r#"{"token_id":"a","subject":"hunter2"}"#,
        r#"{"key":"hunter2","provider":"a"}"#,
        r#"{"hunter2":1}"#,
        r#"{"token_id":"a","before":"2026-11-27T10:00:00Z"}"#,
        r#"{"subject":"a","before":"yesterday"}"#,
        r#"{"subject":"a","until":"1900-01-01T00:00:00Z"}"#,
        r#"{"token_id":"a","token_id":"b"}"#,
    ] {
        let problem = read(text).unwrap_err();
        assert!(problem.remedy.is_some(), "{text}: {problem}");
        assert!(
            text.contains("\"hunter2\":") || !problem.to_string().contains("hunter2"),
            "{text}: {problem}"
        );
    }
    let strict = Defaults { now: NOW, until: u64::MAX, before_now: false };
    assert!(Written::parse(br#"{"subject":"ann"}"#).unwrap().read(strict).is_err(), "a file says when");
}

#[test]
fn texts_are_read_as_they_are_written() {
    for text in [
        r#"{"token_id":"t1","provider":"a","reason":"stolen"}"#,
        r#"{"subject":"ann","before":"2026-11-27T10:00:00Z","until":"2027-11-27T10:00:00Z"}"#,
        r#"{"key":"9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"}"#,
    ] {
        let one = read(text).unwrap();
        let written = serde_json::to_string(&one.written()).unwrap();
        assert_eq!(read(&written).unwrap(), one, "{written}");
        assert_eq!(one.id().to_string().parse(), Ok(one.id()));
    }
    for text in ["", "0", "g".repeat(32).as_str(), "A".repeat(32).as_str(), "0".repeat(33).as_str()] {
        assert!(text.parse::<RevocationId>().is_err(), "{text}");
    }
}

#[test]
fn they_are_made_taken_back_and_bounded() {
    let revocations = Revocations::default();
    revocations.begin(&Arc::new(Settings { most: 2, keep: 3600, ..Settings::default() }), Vec::new());
    assert!(revocations.is_empty());
    let id = |taken: &Taken| taken.written["id"].as_str().unwrap().parse::<RevocationId>().unwrap();
    let first = revocations.revoke(br#"{"token_id":"t1"}"#).unwrap();
    revocations.revoke(br#"{"subject":"ann"}"#).unwrap();
    assert!(matches!(revocations.revoke(br#"{"token_id":"t2"}"#), Err(NotTaken::Full(2))));
    assert!(matches!(revocations.revoke(b"nonsense"), Err(NotTaken::Wrong(_))));
    assert!(revocations.revoke(br#"{"token_id":"t1","reason":"again"}"#).is_ok(), "it is there already");
    assert_eq!(revocations.len(), 2);
    assert_eq!(revocations.list(None)["revocations"].as_array().unwrap().len(), 2);
    assert!(revocations.refuses(&caller(None, "x", Some("t1"), None)));
    assert!(revocations.withdraw(id(&first)).is_some());
    assert!(revocations.withdraw(id(&first)).is_none(), "it is gone");
    assert!(!revocations.refuses(&caller(None, "x", Some("t1"), None)));
    assert_eq!(revocations.list(None)["count"], 1);
    assert!(revocations.revoke(br#"{"token_id":"t1"}"#).is_ok());
    assert!(revocations.refuses(&caller(None, "x", Some("t1"), None)), "made again");
    // Those that are over make room.
    revocations.prune(&mut revocations.ledger.lock(), u64::MAX);
    assert!(revocations.is_empty());
    assert!(revocations.revoke(br#"{"token_id":"t2"}"#).is_ok());
}

#[test]
fn a_key_does_not_count_again_by_itself() {
    let revocations = Revocations::default();
    revocations.begin(&Arc::new(Settings { most: 9, keep: 60, ..Settings::default() }), Vec::new());
    let (endless, dated) = (Sha256::of(b"a key"), Sha256::of(b"another"));
    revocations.revoke(format!(r#"{{"key":"{endless}"}}"#).as_bytes()).unwrap();
    revocations.revoke(format!(r#"{{"key":"{dated}","until":"2999-01-01T00:00:00Z"}}"#).as_bytes()).unwrap();
    revocations.revoke(br#"{"token_id":"t1"}"#).unwrap();
    let in_days = |days: u64| now_in_seconds() + days * 86_400;
    assert!(revocations.own.refuses_key(&endless, || in_days(3600)), "a key has no end of its own");
    assert!(!revocations.own.refuses_key(&endless, || in_days(3700)));
    assert!(revocations.own.refuses_key(&dated, || in_days(3700)), "it says until when");
    let token = caller(None, "x", Some("t1"), None);
    assert!(
        revocations.own.refuses(&token, now_in_seconds) && !revocations.own.refuses(&token, || in_days(1))
    );
}

#[test]
fn logouts_leave_half_of_the_room() {
    let revocations = Revocations::default();
    revocations.begin(&Arc::new(Settings { most: 5, keep: 3600, ..Settings::default() }), Vec::new());
    let until = now_in_seconds() + 60;
    let ended = |n: u32| revocations.end_session("sso", &format!("s{n}"), until);
    assert_eq!([1, 2, 3, 4].map(ended), [true, true, true, false]);
    assert!(ended(1), "it is there already");
    let session = |provider, id| caller(Some(provider), "ann", Some(id), Some(1));
    assert!(revocations.refuses(&session("sso", "s1")) && !revocations.refuses(&session("other", "s1")));
    assert!(!revocations.own.refuses(&session("sso", "s1"), || until), "it has ended by itself");
    assert!(
        revocations.revoke(br#"{"token_id":"t1"}"#).is_ok()
            && revocations.revoke(br#"{"token_id":"t2"}"#).is_ok()
    );
    assert!(matches!(revocations.revoke(br#"{"token_id":"t3"}"#), Err(NotTaken::Full(5))));
}

#[test]
fn a_list_has_pages() {
    let revocations = Revocations::default();
    revocations.begin(&Arc::new(Settings { most: 5000, keep: 3600, ..Settings::default() }), Vec::new());
    for n in 0..2500 {
        revocations.revoke(format!(r#"{{"token_id":"t{n}"}}"#).as_bytes()).unwrap();
    }
    let mut seen = std::collections::BTreeSet::new();
    let mut after = None;
    loop {
        let page = revocations.list(after);
        seen.extend(page["revocations"].as_array().unwrap().iter().map(|one| one["id"].to_string()));
        match page["next"].as_str() {
            Some(next) => after = Some(next.parse().unwrap()),
            None => break,
        }
    }
    assert_eq!(seen.len(), 2500);
}

#[test]
fn a_state_is_read_as_it_was_saved() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("revoked");
    let settings =
        || Arc::new(Settings { most: 10, keep: 3600, state: Some(state.clone()), ..Settings::default() });
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let revocations = Arc::new(Revocations::default());
    revocations.begin(&settings(), files::kept(&state, 10, NOW).unwrap());
    let gone = revocations.revoke(br#"{"token_id":"t1"}"#).unwrap();
    revocations.revoke(br#"{"subject":"ann","before":"2026-11-27T10:00:00Z"}"#).unwrap();
    revocations.withdraw(gone.written["id"].as_str().unwrap().parse().unwrap()).unwrap();
    runtime.block_on(files::save(&revocations, &state));
    use std::os::unix::fs::PermissionsExt as _;
    assert_eq!(std::fs::metadata(&state).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing else is left there");
    let again = Revocations::default();
    again.begin(&settings(), files::kept(&state, 10, NOW).unwrap());
    assert_eq!(again.list(None)["revocations"], revocations.list(None)["revocations"]);
    assert!(again.ledger.lock().by_id.values().any(|one| one.withdrawn), "and what was taken back");
    assert!(files::kept(&folder.path().join("none/revoked"), 10, NOW).is_err(), "no folder");
    std::fs::write(&state, "{\"token_id\":\"a\"}\n\nnonsense\n").unwrap();
    assert!(files::kept(&state, 10, NOW).unwrap_err().what.contains("line 3"));
    assert!(files::listed(&state, 10, NOW).is_err());
    std::fs::write(&state, "{\"token_id\":\"a\"}\n{\"token_id\":\"b\"}\n").unwrap();
    assert_eq!(files::listed(&state, 2, NOW).unwrap().len(), 2);
    assert!(files::listed(&state, 1, NOW).unwrap_err().what.contains("more than 1"));
}

#[test]
fn after_an_upgrade_that_came_to_nothing_it_is_saved_again() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("revoked");
    let settings = Settings { most: 10, keep: 3600, state: Some(state.clone()), ..Settings::default() };
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let revocations = Arc::new(Revocations::default());
    revocations.begin(&Arc::new(settings), Vec::new());
    revocations.revoke(br#"{"token_id":"t1"}"#).unwrap();
    let mut mark = Mark::default();
    assert!(revocations.ahead(&mut mark).is_some());
    revocations.revoke(br#"{"token_id":"t2"}"#).unwrap();
    assert!(revocations.rest(&mark, <Revocations as Carried>::ROOM).is_some());
    runtime.block_on(files::save(&revocations, &state));
    assert!(!state.exists(), "the other process writes it");
    revocations.resume();
    runtime.block_on(files::save(&revocations, &state));
    assert_eq!(files::kept(&state, 10, NOW).unwrap().len(), 2);
    assert!(revocations.ledger.lock().since_ahead.is_none(), "and nothing is noted for nobody");
}

#[test]
fn of_two_lines_in_a_file_the_stricter_one_holds() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("revoked");
    let (late, early) = ("2026-11-27T10:00:00Z", "2020-01-01T00:00:00Z");
    let subject = |before: &str, until: &str, more: &str| {
        format!(r#"{{"subject":"ann","before":"{before}","until":"{until}"{more}}}"#)
    };
    let (long, short) = ("2099-01-01T00:00:00Z", "2027-02-01T00:00:00Z");
    for lines in [
        [subject(late, short, ""), subject(early, long, "")],
        [subject(early, long, ""), subject(late, short, "")],
        [subject(late, long, ""), subject(late, long, r#","withdrawn":true"#)],
        [subject(late, long, r#","withdrawn":true"#), subject(late, long, "")],
    ] {
        std::fs::write(&file, lines.join("\n")).unwrap();
        let table = files::listed(&file, 9, NOW).unwrap();
        assert_eq!(table.len(), 1);
        let issued = |year: u64| caller(None, "ann", None, Some((year - 1970) * 31_556_952));
        assert!(table.refuses(&issued(2026), || NOW / 1000), "{lines:?}");
        assert!(table.refuses(&issued(2026), || (2090 - 1970) * 31_556_952), "{lines:?}");
        assert!(!table.refuses(&issued(2028), || NOW / 1000), "{lines:?}");
    }
}

#[test]
fn all_of_them_are_handed_over_and_no_more_than_may_be() {
    let with = |most: usize| {
        let revocations = Revocations::default();
        revocations.begin(&Arc::new(Settings { most, keep: 3600, ..Settings::default() }), Vec::new());
        revocations
    };
    let old = with(30_000);
    let by_hand =
        |n: usize| old.revoke(format!(r#"{{"token_id":"t{n}","reason":"{}"}}"#, "x".repeat(300)).as_bytes());
    for n in 0..30_000 {
        by_hand(n).unwrap();
    }
    let hand_over = |to: &Revocations| {
        let mut mark = Mark::default();
        let mut pieces = 0;
        while let Some(piece) = old.ahead(&mut mark) {
            assert!(piece.to_string().len() <= <Revocations as Carried>::ROOM);
            to.import(1, piece).unwrap();
            mark.begun = true;
            pieces += 1;
            if pieces == 20 {
                // Behind and before what has gone.
                for one in ["t1", "t2"].map(|id| caller(None, "x", Some(id), None)) {
                    let id = old
                        .ledger
                        .lock()
                        .by_id
                        .iter()
                        .find(|(_, known)| known.refuses(&one, 0))
                        .map(|(id, _)| *id);
                    id.map(|id| old.withdraw(id));
                }
            }
        }
        if let Some(rest) = old.rest(&mark, <Revocations as Carried>::ROOM) {
            to.import(1, rest).unwrap();
        }
    };
    let new = with(30_000);
    hand_over(&new);
    assert_eq!(new.len(), 29_998, "two were taken back meanwhile");
    assert_eq!(new.ledger.lock().by_id, old.ledger.lock().by_id);
    // A configuration that keeps fewer.
    let fewer = with(1000);
    hand_over(&fewer);
    assert_eq!(fewer.ledger.lock().by_id.len(), 1000);
    // A build that takes nothing ahead gets what fits.
    let before = old.export(<Revocations as Carried>::ROOM).unwrap();
    assert!(
        before.to_string().len() <= <Revocations as Carried>::ROOM
            && before.as_array().unwrap().len() > 10_000
    );
}

fn any_revocation() -> impl Strategy<Value = Revocation> {
    (0..3_u64, 0..4_u64, 0..4_u64, any::<bool>()).prop_map(|(before, made, until, withdrawn)| Revocation {
        target: Target::Subject { subject: "ann".into(), provider: None, before },
        until,
        made,
        withdrawn,
        reason: None,
    })
}

proptest! {
    /// Gateways that hear the same in another order come to the same.
    #[test]
    fn merging_knows_no_order(a in any_revocation(), b in any_revocation()) {
        prop_assert_eq!(a.merged(&b), b.merged(&a));
        prop_assert_eq!(a.merged(&a), a.clone());
        prop_assert_eq!(a.merged(&b).merged(&b), a.merged(&b));
    }

    /// The table answers as a list does.
    #[test]
    fn a_table_answers_as_a_list_does(steps in proptest::collection::vec((0..6_u8, 0..3_u8, any::<bool>()), 0..40)) {
        let table = Table::default();
        let mut list: Vec<Arc<Revocation>> = Vec::new();
        let providers = [None, Some("a"), Some("b")];
        for (name, provider, put) in steps {
            let provider = providers[provider as usize].map(|name| format!(r#","provider":"{name}""#));
            let text = format!(r#"{{"token_id":"t{name}"{}}}"#, provider.unwrap_or_default());
            let one = Arc::new(read(&text).unwrap());
            list.retain(|known| known.id() != one.id());
            if put {
                table.put(&one);
                list.push(one);
            } else {
                table.remove(&one);
            }
            prop_assert_eq!(table.len(), list.len());
        }
        for name in 0..6 {
            for provider in providers {
                let caller = caller(provider, "x", Some(&format!("t{name}")), None);
                let expected = list.iter().any(|one| one.refuses(&caller, 0));
                prop_assert_eq!(table.refuses(&caller, || 0), expected);
            }
        }
    }
}

#[test]
fn a_consumer_of_that_name_is_a_subject_as_well() {
    let consumer = Arc::new(Consumer::named("acme"));
    let by_key = Principal::of(Method::ApiKey, "acme", consumer);
    let table = Table::of([Arc::new(read(r#"{"subject":"acme"}"#).unwrap())]);
    assert!(table.refuses(&by_key, || 0), "a key does not say when it was issued");
}
