use super::count::{At, Count, Millis, Window};
use super::file::{Keep, Loaded, Saved};
use super::parts::PARTS;
use super::store::{Ask, Digest, Outcome, Store, now};
use crate::retained::Carried as _;
use crate::values::{Period, Zone};
use proptest::prelude::*;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tempfile::TempDir;

fn window(period: Period, zone: &str, rolling: bool) -> Window {
    Window::new(period, &zone.parse::<Zone>().unwrap(), rolling)
}

fn time(text: &str) -> Millis {
    text.parse::<jiff::Timestamp>().unwrap().as_millisecond().try_into().unwrap()
}

/// When what is used at `now` is all back, if it is one period of the calendar.
fn end(window: &Window, now: &str) -> String {
    let Count::Calendar { end, .. } = Count::new(window.at(time(now))) else { panic!("a calendar's") };
    jiff::Timestamp::from_millisecond(end.try_into().unwrap()).unwrap().to_string()
}

#[test]
fn periods_of_the_calendar_end_where_the_zone_says() {
    for (period, zone, now, ends) in [
        (Period::Minute, "UTC", "2026-11-28T10:00:59.999Z", "2026-11-28T10:01:00Z"),
        (Period::Hour, "UTC", "2026-11-28T10:00:00Z", "2026-11-28T11:00:00Z"),
        (Period::Hour, "Asia/Kathmandu", "2026-11-28T10:00:00Z", "2026-11-28T10:15:00Z"),
        (Period::Day, "UTC", "2026-11-28T23:59:59Z", "2026-11-29T00:00:00Z"),
        (Period::Day, "America/New_York", "2026-11-28T04:00:00Z", "2026-11-28T05:00:00Z"),
        // The day on which clocks go forward has 23 hours, and the one on which they go back 25.
        (Period::Day, "Europe/Berlin", "2026-03-28T23:30:00Z", "2026-03-29T22:00:00Z"),
        (Period::Day, "Europe/Berlin", "2026-10-24T22:30:00Z", "2026-10-25T23:00:00Z"),
        // In Cairo midnight of that day is not there: the day begins at one.
        (Period::Day, "Africa/Cairo", "2026-04-23T12:00:00Z", "2026-04-23T22:00:00Z"),
        (Period::Week, "UTC", "2026-11-29T12:00:00Z", "2026-11-30T00:00:00Z"),
        (Period::Week, "UTC", "2026-11-30T00:00:00Z", "2026-12-07T00:00:00Z"),
        (Period::Month, "UTC", "2028-02-10T00:00:00Z", "2028-03-01T00:00:00Z"),
        (Period::Month, "UTC", "2026-12-31T23:59:59Z", "2027-01-01T00:00:00Z"),
        (Period::Month, "Europe/Berlin", "2026-10-31T23:30:00Z", "2026-11-30T23:00:00Z"),
    ] {
        let window = window(period, zone, false);
        assert_eq!(end(&window, now), ends, "{period} {zone} {now}");
        assert_eq!(end(&window, now), ends, "the one that was asked about last");
    }
    let february = window(Period::Month, "UTC", false);
    assert_eq!(february.seconds(february.at(time("2028-02-10T00:00:00Z"))), 29 * 86_400);
}

#[test]
fn a_period_begins_with_nothing_used() {
    let day = window(Period::Day, "UTC", false);
    let at = |text: &str| day.at(time(text));
    let mut count = Count::new(at("2026-11-28T10:00:00Z"));
    count.add(7);
    assert_eq!(count.used(at("2026-11-28T23:59:59Z")), 7);
    assert_eq!(count.wait(at("2026-11-28T23:59:00Z"), (1, 7)), 60_000);
    assert_eq!(count.wait(at("2026-11-28T23:59:00Z"), (1, 8)), 0);
    assert_eq!(count.wait(at("2026-11-28T23:59:00Z"), (100, 8)), 60_000, "it costs all that there is");
    assert_eq!(count.used(at("2026-11-29T00:00:00Z")), 0);
}

#[test]
fn a_zone_that_changes_or_a_clock_that_was_wrong() {
    let (utc, york) = (window(Period::Day, "UTC", false), window(Period::Day, "America/New_York", false));
    let mut count = Count::new(utc.at(time("2026-11-28T10:00:00Z")));
    count.add(5);
    assert_eq!(count.used(york.at(time("2026-11-28T12:00:00Z"))), 5, "the count goes on");
    assert_eq!(count.used(york.at(time("2026-11-29T01:00:00Z"))), 0, "to the end that it had");
    let mut count = Count::new(utc.at(time("2036-01-01T00:00:00Z")));
    count.add(5);
    assert_eq!(
        count.used(utc.at(time("2026-11-28T10:00:00Z"))),
        0,
        "ten years ahead: a clock that was wrong"
    );
    let mut count = Count::new(utc.at(time("2026-11-28T10:00:00Z")));
    count.add(5);
    assert_eq!(count.used(utc.at(time("2026-11-28T09:00:00Z"))), 5, "put back by an hour");
}

#[test]
fn what_was_taken_is_given_back_only_while_it_counts() {
    for rolling in [false, true] {
        let minute = window(Period::Minute, "UTC", rolling);
        let first = minute.at(time("2026-11-28T10:00:01Z"));
        let mut count = Count::new(first);
        count.add(3);
        count.give_back(first, 2);
        assert_eq!(count.used(first), 1);
        let later = minute.at(time("2026-11-28T10:03:00Z"));
        assert_eq!(count.used(later), 0);
        count.add(4);
        count.give_back(first, 1);
        assert_eq!(count.used(later), 4, "of another period");
    }
}

proptest! {
    /// In no stretch of a period does a rolling window admit more than the quota; and whoever waits as long as
    /// it is told to is admitted.
    #[test]
    fn a_rolling_window_holds_wherever_it_begins(
        steps in proptest::collection::vec((0_u64..9_000, 1_u64..4), 1..120),
        max in 1_u64..20,
    ) {
        let window = window(Period::Minute, "UTC", true);
        let mut now = time("2026-11-28T10:00:00Z");
        let mut count = Count::new(window.at(now));
        let mut admitted: Vec<(Millis, u64)> = Vec::new();
        for (pause, cost) in steps {
            now += pause;
            let wait = count.wait(window.at(now), (cost, max));
            if wait > 0 {
                prop_assert!(count.clone().wait(window.at(now + wait), (cost, max)) == 0, "after {wait} ms");
                prop_assert!(count.clone().wait(window.at(now + wait - 1), (cost, max)) > 0, "not before");
                // A unit comes back at most a thirtieth of the period late.
                let used: u64 = admitted.iter().filter(|(at, _)| *at + 60_000 + 2_000 > now).map(|(_, cost)| cost).sum();
                prop_assert!(used + cost.min(max) > max, "refused for what is long over");
                continue;
            }
            count.add(cost.min(max));
            admitted.push((now, cost.min(max)));
            let last: u64 = admitted.iter().filter(|(at, _)| *at + 60_000 > now).map(|(_, cost)| cost).sum();
            prop_assert!(last <= max, "{last} in a minute");
        }
    }

    /// What is written down and read is what it was.
    #[test]
    fn counts_are_read_as_they_are_written(used in proptest::collection::vec((0_u64..5, 1_u64..9), 0..80), rolling: bool) {
        let window = window(Period::Minute, "UTC", rolling);
        let mut now = time("2026-11-28T10:00:00Z");
        let mut count = Count::new(window.at(now));
        for (parts, cost) in used {
            now += parts * 2_000;
            count.used(window.at(now));
            count.add(cost);
        }
        let (length, written) = count.written();
        let mut read = Count::read(length, &written).unwrap();
        for ahead in [0, 1, 7, PARTS as u64, 100] {
            let at = window.at(now + ahead * 2_000);
            prop_assert_eq!(read.used(at), count.used(at));
        }
    }
}

#[test]
fn what_no_count_writes_is_not_read() {
    for (length, parts) in [
        (0, vec![]),
        (0, vec![(1, 1), (2, 2)]),
        (7, vec![(1, 1)]),
        (2_000, vec![]),
        (2_000, vec![(1, 1), (99, 1)]),
    ] {
        assert_eq!(Count::read(length, &parts), None, "{length} {parts:?}");
    }
}

fn digest(number: u32) -> Digest {
    let mut digest = Digest::default();
    let whole = crate::values::Sha256::of(&number.to_le_bytes());
    digest.copy_from_slice(&whole.bytes()[..16]);
    digest
}

fn ask(quota: &Arc<str>, key: u32, at: At, max: u64) -> Ask<'_> {
    Ask { quota, digest: digest(key), at, cost: 1, max }
}

#[test]
fn threads_together_take_no_more_than_there_is_and_leave_nothing_half_taken() {
    let (store, quota) = (Store::new(1000), Arc::<str>::from("a"));
    let month = window(Period::Month, "UTC", false);
    let (at, admitted) = (month.at(now()), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for thread in 0..4_u32 {
            let (store, quota, admitted) = (&store, &quota, &admitted);
            scope.spawn(move || {
                for turn in 0..5_000_u32 {
                    // Three quotas at once, in different orders: 1 and 2 have more than the one that binds.
                    let mut asks =
                        vec![ask(quota, 0, at, 1_000), ask(quota, 1, at, 50_000), ask(quota, 2, at, 50_000)];
                    asks.rotate_left((turn + thread) as usize % 3);
                    if store.take(&asks, |_| "x".into()) == Outcome::Admitted {
                        admitted.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    assert_eq!(admitted.into_inner(), 1_000);
    for key in 0..3 {
        assert_eq!(store.state(&digest(key), at).used, 1_000, "{key}: who is refused takes nothing anywhere");
    }
}

#[test]
fn whoever_used_least_goes_when_there_is_no_room() {
    let (store, quota) = (Store::new(16), Arc::<str>::from("a"));
    let at = window(Period::Month, "UTC", false).at(now());
    let one = |key: u32| store.take(&[ask(&quota, key, at, 5)], |_| "x".into());
    // These have used up what they have.
    for _ in 0..6 {
        (0..8).map(one).for_each(|_| {});
    }
    (100..10_000).map(one).for_each(|_| {});
    assert!(store.len() <= store.most(), "{} keys", store.len());
    assert!(store.forgotten() > 9_000, "{}", store.forgotten());
    for key in 0..8 {
        assert!(matches!(one(key), Outcome::Refused { .. }), "{key}: a flood of keys gives nobody more");
    }
}

fn filled() -> (Store, Arc<str>, At) {
    let (store, quota) = (Store::new(1000), Arc::<str>::from("policies/name/key"));
    let at = window(Period::Month, "UTC", false).at(now());
    let hour = window(Period::Hour, "UTC", true).at(now());
    for key in 0..50 {
        let at = if key % 2 == 0 { at } else { hour };
        store.take(&[Ask { cost: u64::from(key) + 1, ..ask(&quota, key, at, 100) }], |_| {
            format!("n{key}").into()
        });
    }
    (store, quota, at)
}

fn load(folder: &Path) -> (Store, Loaded) {
    let store = Store::new(1000);
    let loaded = Keep::new(folder.to_owned()).load(&store).unwrap();
    (store, loaded)
}

#[test]
fn what_is_used_is_found_again_in_the_file() {
    let folder = TempDir::new().unwrap();
    let (store, _, at) = filled();
    let mut keep = Keep::new(folder.path().join("state"));
    assert_eq!(keep.save(&store).unwrap(), Saved::Unchanged, "not before the file was read");
    assert!(matches!(keep.load(&store).unwrap(), Loaded::Keys(0)));
    assert_eq!(keep.save(&store).unwrap(), Saved::Written);
    assert_eq!(keep.save(&store).unwrap(), Saved::Unchanged);
    let (read, loaded) = load(&folder.path().join("state"));
    assert!(matches!(loaded, Loaded::Keys(50)), "{loaded:?}");
    for key in (0..50).step_by(2) {
        assert_eq!(read.state(&digest(key), at).used, u64::from(key) + 1);
    }
    assert_eq!(
        read.usage(&super::Wanted::default())["quotas"],
        store.usage(&super::Wanted::default())["quotas"]
    );
    let one = super::Wanted { of: Some("n3".to_owned()), after: None };
    let shown = read.usage(&one);
    assert_eq!((shown["quotas"].as_array().unwrap().len(), &shown["quotas"][0]["used"]), (1, &4.into()));
    assert_eq!(shown["quotas"][0]["quota"], "name");
    // Only its owner may read who calls.
    use std::os::unix::fs::PermissionsExt as _;
    let mode = std::fs::metadata(keep.file()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn a_file_that_is_not_whole_is_put_aside() {
    let folder = TempDir::new().unwrap();
    let (store, ..) = filled();
    let mut keep = Keep::new(folder.path().to_owned());
    keep.load(&store).unwrap();
    keep.save(&store).unwrap();
    let whole = std::fs::read(keep.file()).unwrap();
    let flipped = {
        let mut text = whole.clone();
        text[100] ^= 1;
        text
    };
    let newer =
        String::from_utf8(whole.clone()).unwrap().replacen("\"quotas\":1", "\"quotas\":9", 1).into_bytes();
    for (what, text) in [
        ("cut", &whole[..whole.len() / 2]),
        ("cut in its last line", &whole[..whole.len() - 5]),
        ("a byte is another one", &flipped),
        ("empty", &[][..]),
        ("of another form", &newer),
        ("no text", &[0xff; 100][..]),
    ] {
        std::fs::write(keep.file(), text).unwrap();
        let (store, loaded) = load(folder.path());
        let Loaded::Quarantined(aside, why) = loaded else { panic!("{what}: {loaded:?}") };
        assert!(!why.is_empty() && store.is_empty(), "{what}");
        assert_eq!(std::fs::read(aside).unwrap(), text, "{what}");
        assert!(!keep.file().exists() && store.is_loaded(), "{what}: it begins anew");
    }
}

#[test]
fn a_folder_that_takes_nothing_is_an_error_and_is_tried_again() {
    let folder = TempDir::new().unwrap();
    let (store, ..) = filled();
    let place = folder.path().join("state");
    std::fs::write(&place, "not a folder").unwrap();
    let mut keep = Keep::new(place.clone());
    assert!(keep.load(&store).is_err(), "it cannot be known what is there");
    std::fs::remove_file(&place).unwrap();
    keep.load(&store).unwrap();
    std::fs::write(&place, "not a folder").unwrap();
    assert!(keep.save(&store).is_err() && keep.save(&store).is_err());
    std::fs::remove_file(&place).unwrap();
    assert_eq!(keep.save(&store).unwrap(), Saved::Written, "what was not written is not forgotten");
}

#[test]
fn one_process_writes_at_a_time() {
    let folder = TempDir::new().unwrap();
    let ((first, ..), (second, ..)) = (filled(), filled());
    let (mut one, mut two) = (Keep::new(folder.path().to_owned()), Keep::new(folder.path().to_owned()));
    one.load(&first).unwrap();
    two.load(&second).unwrap();
    assert_eq!(one.save(&first).unwrap(), Saved::Written);
    assert_eq!(two.save(&second).unwrap(), Saved::Elsewhere);
    // At an upgrade, the one that served leaves the file to the one that takes over.
    let (third, ..) = filled();
    third.import(Store::VERSION, first.export(Store::ROOM).unwrap()).unwrap();
    assert_eq!(
        third.usage(&super::Wanted::default())["quotas"],
        first.usage(&super::Wanted::default())["quotas"]
    );
    assert_eq!(one.save(&first).unwrap(), Saved::Elsewhere);
    assert_eq!(two.save(&second).unwrap(), Saved::Written);
    assert!(first.export(700).unwrap().to_string().len() <= 700, "the rest is in the file");
    assert!(third.import(9, serde_json::json!([])).is_err());
}
