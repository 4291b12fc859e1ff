//! When tokens count, by a clock that the tests set.

use super::*;

fn signer() -> (Signer, impl Fn(&Signer, Value) -> String) {
    let sign =
        |signer: &Signer, others: Value| signer.token(Algorithm::ES256, Some("k"), &claims_with(&others));
    (Signer::new(Algorithm::ES256), sign)
}

#[test]
fn tokens_count_from_their_first_second_to_their_last() {
    let (signer, sign) = signer();
    let strict = json!({ "leeway": "0s" });
    for (settings, others, span) in [
        (&strict, json!({ "exp": NOW }), 0..NOW),
        (&strict, json!({ "exp": NOW, "nbf": NOW - 10 }), NOW - 10..NOW),
        (&strict, json!({ "exp": NOW as f64 + 0.5 }), 0..NOW + 1),
        (&json!({}), json!({ "exp": NOW, "nbf": NOW - 10 }), NOW - 40..NOW + 30),
        (
            &json!({ "leeway": "0s", "max_age": "5s" }),
            json!({ "exp": NOW, "iat": NOW - 10 }),
            NOW - 10..NOW - 5,
        ),
        (&json!({ "leeway": "0s", "max_age": "1h" }), json!({ "exp": NOW, "iat": NOW - 10 }), NOW - 10..NOW),
        (&strict, json!({ "exp": NOW, "iat": NOW + 99 }), 0..NOW),
    ] {
        let token = sign(&signer, others.clone());
        for now in
            [0, span.start.saturating_sub(1), span.start, span.end - 1, span.end, span.end + 1, u64::MAX]
        {
            // Once with nothing remembered, and once with whatever the time before left.
            let fresh = trusting(&signer, Algorithm::ES256, Some("k"), settings);
            let used = trusting(&signer, Algorithm::ES256, Some("k"), settings);
            assert!(verdict_at(&used, &token, span.start).is_ok());
            for provider in [fresh, used] {
                assert_eq!(
                    verdict_at(&provider, &token, now).is_ok(),
                    span.contains(&now),
                    "{others} {settings} at {now}"
                );
            }
        }
    }
}

#[test]
fn why_they_do_not() {
    let (signer, sign) = signer();
    let provider =
        trusting(&signer, Algorithm::ES256, Some("k"), &json!({ "leeway": "0s", "max_age": "1h" }));
    for (others, cause) in [
        (json!({ "exp": NOW - 1, "iat": NOW - 5 }), Cause::Expired),
        (json!({ "exp": -1, "iat": NOW }), Cause::Expired),
        (json!({ "exp": 0, "iat": NOW }), Cause::Expired),
        (json!({ "nbf": NOW + 1, "iat": NOW }), Cause::NotYetValid),
        (json!({ "iat": NOW + 1 }), Cause::NotYetValid),
        (json!({ "iat": NOW - 3601 }), Cause::TooOld),
        (json!({}), Cause::ClaimMissing),
        (json!({ "iat": NOW, "exp": 1e18 }), Cause::TooLarge),
    ] {
        let verdict = verdict(&provider, &sign(&signer, others.clone()));
        match cause {
            // An end beyond all reason is one all the same.
            Cause::TooLarge => assert!(verdict.is_ok(), "{others}"),
            _ => assert_eq!(verdict.unwrap_err(), cause, "{others}"),
        }
    }
}

/// The clock jumps: what is remembered follows it, in both directions.
#[test]
fn a_clock_that_jumps() {
    let (signer, sign) = signer();
    let provider = trusting(&signer, Algorithm::ES256, Some("k"), &json!({ "leeway": "0s" }));
    let token = sign(&signer, json!({ "nbf": NOW, "exp": NOW + 60 }));
    for (now, cause) in [
        (NOW, None),
        (NOW + 86_400, Some(Cause::Expired)),
        (NOW + 30, None),
        (NOW - 86_400, Some(Cause::NotYetValid)),
        (0, Some(Cause::NotYetValid)),
        (NOW + 59, None),
        (u64::MAX, Some(Cause::Expired)),
        (NOW + 1, None),
    ] {
        assert_eq!(verdict_at(&provider, &token, now).err(), cause, "at {now}");
    }
}
