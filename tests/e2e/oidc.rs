//! Login of people with a browser, against an issuer that holds the gateway to the protocol.

use crate::harness::{Answer, Gateway, LoginIssuer, Origin, Redis, Visitor, now, send, wait_until};
use serde_json::{Value, json};
use std::sync::{Arc, Barrier};
use tempfile::TempDir;

/// What an issuer says otherwise than it should.
type Change = fn(&mut Value);

const KEY: &str = "0123456789 0123456789 0123456789";

/// A gateway in front of an application, with logins of this issuer; `more` are further lines of the
/// provider, and `ways` what comes with it in `any_of`.
fn yaml(issuer: &str, app: &Origin, more: &str) -> String {
    format!(
        "listeners: {{ web: {{ address: '127.0.0.1:PORT_web' }} }}
admin: {{ address: '127.0.0.1:PORT_admin', token: secret }}
upstreams: {{ app: {{ endpoints: ['{}'] }} }}
identity:
  providers:
    sso:
      oidc:
        issuer: {issuer}
        client_id: gateway
        client_secret: s3cr+t
        redirect_uri: http://localhost:PORT_web/oauth2/callback
        algorithms: [ES256]
        cookies: {{ keys: ['{KEY}'] }}
        logout: {{ path: /logout, return_to: 'http://localhost:PORT_web/bye' }}
{more}
routes:
  app:
    match: {{ path: '/*' }}
    policies: {{ authenticate: {{ any_of: [{{ oidc: sso }}] }} }}
    to: app
  open:
    match: {{ path: '/open' }}
    to: app
  optional:
    match: {{ path: '/optional' }}
    policies: {{ authenticate: {{ any_of: [{{ oidc: sso }}], optional: true }} }}
    to: app
",
        app.address()
    )
}

struct World {
    issuer: LoginIssuer,
    app: Origin,
    gateway: Gateway,
}

fn world(more: &str) -> World {
    let (issuer, app) = (LoginIssuer::start(), Origin::saying("the application"));
    let gateway = Gateway::start(&yaml(&issuer.name(), &app, more));
    World { issuer, app, gateway }
}

impl World {
    fn visitor(&self) -> Visitor {
        Visitor::of(self.gateway.web())
    }
}

/// Whether the visitor is sent to the issuer.
fn is_sent_away(answer: &Answer) -> bool {
    answer.status == 302 && answer.field("location").is_some_and(|to| to.contains("/authorize?"))
}

#[test]
fn a_login_leads_back_to_the_page_that_was_asked_for() {
    let world = world("");
    let mut visitor = world.visitor();
    assert_eq!(visitor.log_in(&world.issuer, "/a/b?c=d%20e&f=%2F", "ann"), "/a/b?c=d%20e&f=%2F");
    assert_eq!(visitor.open("/a/b?c=d%20e&f=%2F").text(), "the application");
    let got = world.app.last();
    assert_eq!(got.target(), "/a/b?c=d%20e&f=%2F");
    assert_eq!(got.field("cookie"), None, "our cookies stay here");
    assert_eq!(world.issuer.log(), ["granted authorization_code ann"]);
    assert_eq!(visitor.cookies.keys().collect::<Vec<_>>(), ["tollgate-sso", "tollgate-sso.seen"]);
}

#[test]
fn cookies_of_others_go_upstream_and_ours_do_not_on_any_route() {
    let world = world("");
    let mut visitor = world.visitor();
    visitor.log_in(&world.issuer, "/", "ann");
    visitor.cookies.insert("theirs".into(), "1".into());
    visitor.cookies.insert("tollgate-sso2".into(), "2".into());
    for target in ["/", "/open", "/optional"] {
        assert_eq!(visitor.open(target).status, 200);
        assert_eq!(world.app.last().field("cookie"), Some("theirs=1; tollgate-sso2=2"), "{target}");
    }
}

#[test]
fn a_session_that_was_revoked_has_ended_and_another_may_begin() {
    let world = world("");
    let mut visitor = world.visitor();
    visitor.log_in(&world.issuer, "/", "ann");
    assert_eq!(visitor.open("/a").status, 200);
    let body = r#"{"subject":"ann","provider":"sso"}"#;
    let fields = format!("authorization: Bearer secret\r\ncontent-length: {}\r\n", body.len());
    let request = format!("POST /revocations HTTP/1.1\r\nhost: a\r\nconnection: close\r\n{fields}\r\n{body}");
    assert_eq!(send(world.gateway.at("admin"), &request).status, 201);
    let revoked = now();
    assert!(is_sent_away(&visitor.open("/a")), "to log in, rather than refused for good");
    assert_eq!(visitor.fetch("/a").status, 401, "a program");
    // All of the second counts as before.
    wait_until("a second has begun that the revocation is not about", || now() > revoked + 1);
    assert_eq!(visitor.log_in(&world.issuer, "/a", "ann"), "/a");
    assert_eq!(visitor.open("/a").status, 200);
}

#[test]
fn programs_get_a_401_and_no_redirect() {
    let world = world("");
    let mut visitor = world.visitor();
    let html = "accept: text/html\r\n";
    for (method, fields) in [
        ("GET", ""),
        ("GET", "accept: application/json\r\n"),
        ("GET", "accept: text/html\r\nx-requested-with: XMLHttpRequest\r\n"),
        ("GET", "accept: text/html\r\nsec-fetch-mode: cors\r\n"),
        ("HEAD", html),
        ("POST", html),
        ("DELETE", html),
    ] {
        let answer = visitor.ask(method, "/a", fields);
        assert_eq!(answer.status, 401, "{method} {fields}");
        assert!(answer.field("www-authenticate").is_some() && answer.field("set-cookie").is_none());
    }
    assert!(world.app.received().is_empty());
    assert_eq!(visitor.fetch("/optional").status, 200, "an optional login asks nobody to log in");
    assert_eq!(visitor.open("/optional").status, 200);
}

#[test]
fn no_login_leads_to_another_site() {
    let world = world("");
    for target in
        ["//evil.example/a", "/\\evil.example", "/%5cevil.example", "/a?b=\\\\evil", "/%0d%0aset-cookie:a"]
    {
        let mut visitor = world.visitor();
        let sent = visitor.open(target);
        if sent.status == 400 {
            continue;
        }
        let back = world.issuer.log_in(sent.field("location").unwrap(), "ann");
        let to = visitor.open(&format!("/oauth2/callback?{back}"));
        let to = to.field("location").unwrap().to_owned();
        let base = url::Url::parse("http://localhost/").unwrap();
        assert_eq!(base.join(&to).unwrap().origin(), base.origin(), "{target} led to {to}");
    }
}

#[test]
fn a_state_counts_once_and_in_its_own_browser() {
    let world = world("");
    let mut visitor = world.visitor();
    let sent = visitor.open("/");
    let back = world.issuer.log_in(sent.field("location").unwrap(), "ann");
    let attempt = visitor.clone();
    let callback = format!("/oauth2/callback?{back}");
    assert_eq!(visitor.clone().open(&callback).status, 302);
    for mut replayed in [attempt, world.visitor()] {
        let answer = replayed.open(&callback);
        assert_eq!((answer.status, answer.field("content-type")), (400, Some("text/html; charset=utf-8")));
        assert!(replayed.open("/").status == 302, "nobody is logged in by it");
    }
    assert_eq!(world.issuer.log().len(), 1, "the code was spent once");
}

#[test]
fn an_answer_that_is_not_the_issuers_is_refused() {
    let world = world("");
    let name = world.issuer.name();
    type Try<'a> = (&'a str, &'a dyn Fn(&str) -> String, u16);
    let tries: [Try<'_>; 10] = [
        ("no state", &|back| back.replace("state=", "s="), 400),
        ("another state", &|back| back.replace("state=", "state=x"), 400),
        ("two states", &|back| format!("{back}&state=x"), 400),
        ("no code", &|back| back.replace("code=", "c="), 400),
        ("two codes", &|back| format!("{back}&code=x"), 400),
        ("another code", &|back| back.replace("code=", "code=x"), 400),
        ("another issuer", &|back| back.replace("iss=http", "iss=https"), 400),
        ("no issuer", &|back| back.replace("&iss=", "&x="), 400),
        ("denied", &|back| back.replace("code=", "error=access_denied&c="), 403),
        ("down", &|back| back.replace("code=", "error=server_error&c="), 503),
    ];
    for (what, change, status) in tries {
        let mut visitor = world.visitor();
        let sent = visitor.open("/page");
        let back = world.issuer.log_in(sent.field("location").unwrap(), "ann");
        let answer = visitor.open(&format!("/oauth2/callback?{}", change(&back)));
        assert_eq!(answer.status, status, "{what}: {}", answer.text());
        let page = answer.text();
        assert!(page.contains("Login did not work") && !page.contains(&name), "{what}: {page}");
        assert!(!visitor.cookies.contains_key("tollgate-sso"), "{what}");
    }
    let mut visitor = world.visitor();
    for query in ["", "?", "?code=%ff&state=%00", "?state=../../x&code=a", "?=&&&%", "?state=&code=", "?iss"]
    {
        assert_eq!(visitor.open(&format!("/oauth2/callback{query}")).status, 400, "{query}");
    }
}

#[test]
fn an_id_token_has_to_be_for_this_login() {
    let world = world("");
    let changes: [(&str, Change); 12] = [
        ("nonce", |claims| claims["nonce"] = json!("another")),
        ("no nonce", |claims| drop(claims.as_object_mut().unwrap().remove("nonce"))),
        ("audience", |claims| claims["aud"] = json!("another")),
        ("audiences", |claims| claims["aud"] = json!(["gateway", "another"])),
        ("azp", |claims| claims["azp"] = json!("another")),
        ("issuer", |claims| claims["iss"] = json!("https://id.example")),
        ("expired", |claims| claims["exp"] = json!(1)),
        ("no exp", |claims| drop(claims.as_object_mut().unwrap().remove("exp"))),
        ("at_hash", |claims| claims["at_hash"] = json!("AAAAAAAAAAAAAAAAAAAAAA")),
        ("no subject", |claims| claims["sub"] = json!("")),
        ("subject of another type", |claims| claims["sub"] = json!(7)),
        ("too large", |claims| claims["groups"] = json!("g".repeat(13_500))),
    ];
    for (what, change) in changes {
        world.issuer.change_claims(change);
        let mut visitor = world.visitor();
        let sent = visitor.open("/");
        let back = world.issuer.log_in(sent.field("location").unwrap(), "ann");
        let answer = visitor.open(&format!("/oauth2/callback?{back}"));
        assert_eq!(answer.status, 502, "{what}: {}", answer.text());
        assert_eq!(visitor.cookies.len(), 0, "{what}");
    }
    world.issuer.change_claims(|_| {});
    let answers: [(&str, Change); 6] = [
        ("no ID token", |answer| drop(answer.as_object_mut().unwrap().remove("id_token"))),
        ("unsigned", |answer| answer["id_token"] = json!("eyJhbGciOiJub25lIn0.e30.")),
        ("another type", |answer| answer["token_type"] = json!("mac")),
        ("no tokens", |answer| *answer = json!({})),
        ("a list", |answer| *answer = json!([1])),
        ("tampered", |answer| {
            let token = answer["id_token"].as_str().unwrap().to_owned();
            answer["id_token"] = json!(format!("{}AAAA", &token[..token.len() - 4]));
        }),
    ];
    for (what, change) in answers {
        world.issuer.change_answer(change);
        let mut visitor = world.visitor();
        let sent = visitor.open("/");
        let back = world.issuer.log_in(sent.field("location").unwrap(), "ann");
        assert_eq!(visitor.open(&format!("/oauth2/callback?{back}")).status, 502, "{what}");
    }
}

#[test]
fn a_large_session_is_split_and_counts_only_whole() {
    let world = world("");
    world.issuer.change_claims(|claims| claims["groups"] = json!("g".repeat(6000)));
    let mut visitor = world.visitor();
    visitor.log_in(&world.issuer, "/", "ann");
    let parts = visitor.cookies.keys().filter(|name| !name.ends_with("seen")).count();
    assert!((3..=5).contains(&parts), "{parts}");
    assert_eq!(visitor.fetch("/").status, 200);
    for name in visitor.cookies.keys() {
        let mut without = visitor.clone();
        without.cookies.remove(name);
        assert_eq!(without.fetch("/").status, 401, "without {name}");
        let mut changed = visitor.clone();
        let value = changed.cookies.get_mut(name).unwrap();
        let at = value.len() / 2;
        let other = if value.as_bytes()[at] == b'A' { "B" } else { "A" };
        value.replace_range(at..=at, other);
        assert_eq!(changed.fetch("/").status, 401, "with {name} changed");
        assert!(is_sent_away(&changed.open("/")), "and a person may log in again");
    }
    world.issuer.change_claims(|_| {});
    visitor.cookies.remove("tollgate-sso.seen");
    visitor.log_in(&world.issuer, "/", "ann");
    assert_eq!(visitor.cookies.len(), 2, "nothing is left of the larger one: {:?}", visitor.cookies.keys());
    assert_eq!(visitor.fetch("/").status, 200);
}

#[test]
fn a_session_is_refreshed_once_for_all_who_find_it_due() {
    let world = Arc::new(world("        session: { refresh_before: 1h }"));
    world.issuer.tokens_live(json!(0));
    let mut visitor = world.visitor();
    visitor.log_in(&world.issuer, "/", "ann");
    let old = visitor.clone();
    world.issuer.tokens_live(json!(3000));
    let together = Arc::new(Barrier::new(8));
    let all: Vec<_> = (0..8)
        .map(|_| {
            let (mut visitor, together) = (old.clone(), together.clone());
            std::thread::spawn(move || {
                together.wait();
                (visitor.fetch("/").status, visitor)
            })
        })
        .collect();
    for one in all {
        let (status, mut visitor) = one.join().unwrap();
        assert_eq!(status, 200);
        assert_eq!(visitor.fetch("/").status, 200, "the cookies that it got are good");
    }
    assert_eq!(world.issuer.log(), ["granted authorization_code ann", "granted refresh_token ann"]);
}

#[test]
fn a_refresh_that_fails_ends_the_session_with_its_tokens_and_is_tried_again() {
    let world = world("        session: { refresh_before: 1h }");
    world.issuer.tokens_live(json!(3));
    let mut visitor = world.visitor();
    visitor.log_in(&world.issuer, "/", "ann");
    world.issuer.is_down(true);
    wait_until("the session is over", || match visitor.clone().fetch("/").status {
        200 => false,
        401 => true,
        other => panic!("{other}"),
    });
    world.issuer.is_down(false);
    wait_until("the issuer is asked again", || visitor.clone().fetch("/").status == 200);
}

#[test]
fn a_refused_refresh_leads_to_a_new_login() {
    let world = world("");
    world.issuer.tokens_live(json!(0));
    let mut visitor = world.visitor();
    visitor.log_in(&world.issuer, "/", "ann");
    world.issuer.forget_refresh_tokens();
    assert_eq!(visitor.fetch("/").status, 401);
    assert!(is_sent_away(&visitor.open("/")));
    assert_eq!(world.issuer.log()[1..], ["refused refresh_token"], "a token that is no good is spent once");
    world.issuer.tokens_live(json!(300));
    assert_eq!(visitor.log_in(&world.issuer, "/again", "ann"), "/again");
    assert_eq!(visitor.fetch("/").status, 200);
}

#[test]
fn a_refresh_cannot_make_somebody_else_of_a_session() {
    let world = world("        session: { refresh_before: 1h }");
    world.issuer.tokens_live(json!(2));
    let mut visitor = world.visitor();
    visitor.log_in(&world.issuer, "/", "ann");
    world.issuer.change_claims(|claims| claims["sub"] = json!("bob"));
    wait_until("the session is over", || visitor.clone().fetch("/").status == 401);
    assert!(world.issuer.log().iter().any(|line| line == "granted refresh_token ann"));
}

#[test]
fn without_a_refresh_token_a_session_ends_with_its_tokens() {
    let world = world("");
    world.issuer.tokens_live(json!(2));
    world.issuer.change_answer(|answer| drop(answer.as_object_mut().unwrap().remove("refresh_token")));
    let mut visitor = world.visitor();
    visitor.log_in(&world.issuer, "/", "ann");
    wait_until("the session is over", || visitor.clone().fetch("/").status == 401);
    assert_eq!(world.issuer.log(), ["granted authorization_code ann"]);
}

#[test]
fn a_logout_ends_the_session_here_and_with_the_issuer() {
    let world = world("");
    let mut visitor = world.visitor();
    visitor.log_in(&world.issuer, "/", "ann");
    let stolen = visitor.clone();
    let foreign = "accept: text/html\r\nsec-fetch-mode: navigate\r\nsec-fetch-site: cross-site\r\n";
    let asked = visitor.ask("GET", "/logout", foreign);
    assert_eq!(asked.status, 200, "another site cannot log anybody out");
    assert!(asked.text().contains("<form method=\"post\" action=\"/logout\">"));
    assert_eq!(visitor.fetch("/").status, 200);
    let own = "accept: text/html\r\nsec-fetch-mode: navigate\r\nsec-fetch-site: same-origin\r\n";
    let answer = visitor.ask("POST", "/logout", own);
    assert_eq!(answer.status, 303);
    let to = url::Url::parse(answer.field("location").unwrap()).unwrap();
    assert!(to.as_str().starts_with(&format!("{}/end?id_token_hint=ey", world.issuer.name())), "{to}");
    let pairs: Vec<_> = to.query_pairs().into_owned().collect();
    let port = world.gateway.web().port();
    assert_eq!(
        pairs[1..],
        [
            ("client_id".to_owned(), "gateway".to_owned()),
            ("post_logout_redirect_uri".to_owned(), format!("http://localhost:{port}/bye")),
        ]
    );
    assert!(visitor.cookies.is_empty());
    assert_eq!(stolen.clone().fetch("/").status, 401, "a copy of the cookies is worth nothing");
    let nobody = visitor.ask("GET", "/logout", own);
    assert_eq!(nobody.field("location"), Some(&*format!("http://localhost:{port}/bye")), "nothing to end");
}

/// A copy of the cookies is worth nothing either after a restart or at another gateway.
#[test]
fn a_logout_outlives_a_restart_and_is_told_to_other_gateways() {
    let (issuer, app, redis) = (LoginIssuer::start(), Origin::saying("the application"), Redis::start());
    let folder = TempDir::new().unwrap();
    let state = folder.path().join("revoked");
    let text = |settings: &str| {
        let revocations = format!("  revocations: {{ {settings}, refresh: 100ms }}");
        let timeouts = "timeout: 10s, connect_timeout: 10s";
        let stores =
            format!("stores: {{ main: {{ redis: {{ address: '{}', {timeouts} }} }} }}", redis.address());
        format!("{stores}\n{}", yaml(&issuer.name(), &app, &revocations))
    };
    let kept = format!("state: '{}'", state.display());
    let first = Gateway::start(&text(&format!("{kept}, store: main")));
    // The others know the same sessions.
    let port = first.web().port();
    let same = |text: &str| text.replace("localhost:PORT_web/oauth2", &format!("localhost:{port}/oauth2"));
    let other = Gateway::start(&same(&text("store: main")));
    let mut visitor = Visitor::of(first.web());
    visitor.log_in(&issuer, "/", "ann");
    let mut stays = Visitor::of(first.web());
    stays.log_in(&issuer, "/", "bob");
    let at = |gateway: &Gateway, visitor: &Visitor| {
        let mut copy = Visitor::of(gateway.web());
        copy.cookies = visitor.cookies.clone();
        copy.fetch("/").status
    };
    let stolen = visitor.clone();
    assert_eq!((at(&first, &stolen), at(&other, &stolen)), (200, 200));
    assert_eq!(visitor.ask("POST", "/logout", "sec-fetch-site: same-origin\r\n").status, 204);
    assert_eq!(at(&first, &stolen), 401);
    wait_until("the other gateway knows", || at(&other, &stolen) == 401);
    wait_until("it is on disk", || std::fs::read_to_string(&state).is_ok_and(|text| text.contains("logout")));
    drop(first);
    let restarted = Gateway::start(&same(&text(&kept)));
    assert_eq!((at(&restarted, &stolen), at(&restarted, &stays)), (401, 200));
}

#[test]
fn an_issuer_that_is_away_ends_no_session_and_no_reload() {
    let world = world("");
    let mut visitor = world.visitor();
    visitor.log_in(&world.issuer, "/", "ann");
    world.issuer.is_down(true);
    assert_eq!(visitor.fetch("/").status, 200);
    world.gateway.rewrite(&yaml(&world.issuer.name(), &world.app, "        scopes: [email]"));
    assert_eq!(world.gateway.reload().status, 200);
    assert_eq!(visitor.fetch("/").status, 200, "the session outlives a reload");
    let sent = world.visitor().open("/");
    assert!(is_sent_away(&sent), "what is known of the issuer is kept");
    assert!(sent.field("location").unwrap().contains("scope=openid+email"), "with the new settings");
}

#[test]
fn an_issuer_that_was_never_there_costs_logins_alone() {
    let app = Origin::saying("the application");
    let gateway = Gateway::start(&yaml("http://127.0.0.1:9", &app, ""));
    let mut visitor = Visitor::of(gateway.web());
    let answer = visitor.open("/");
    assert_eq!(answer.status, 503);
    assert!(answer.text().contains("try again later"), "{}", answer.text());
    assert_eq!(visitor.open("/open").status, 200);
}

#[test]
fn an_issuer_that_comes_later_is_found() {
    let issuer = LoginIssuer::start();
    issuer.change_metadata(|metadata| metadata["issuer"] = json!("https://another.example"));
    let app = Origin::saying("the application");
    let gateway = Gateway::start(&yaml(&issuer.name(), &app, ""));
    let mut visitor = Visitor::of(gateway.web());
    assert_eq!(visitor.open("/").status, 503, "another issuer's word does not count");
    issuer.change_metadata(|_| {});
    wait_until("the issuer is known", || is_sent_away(&visitor.open("/")));
}

#[test]
fn many_tabs_may_log_in_and_the_oldest_makes_room() {
    let world = world("");
    let mut visitor = world.visitor();
    let sent: Vec<String> =
        (0..12).map(|at| visitor.open(&format!("/{at}")).field("location").unwrap().to_owned()).collect();
    assert_eq!(visitor.cookies.len(), 8);
    let ends = |(at, location): (usize, &String)| {
        let back = world.issuer.log_in(location, "ann");
        let answer = visitor.clone().open(&format!("/oauth2/callback?{back}"));
        assert!(answer.status == 400 || answer.field("location") == Some(&*format!("/{at}")), "{answer:?}");
        answer.status == 302
    };
    let ended: Vec<bool> = sent.iter().enumerate().map(ends).collect();
    assert_eq!(ended.iter().filter(|ended| **ended).count(), 8, "{ended:?}");
    assert!(ended[11], "the newest is among them");
}

#[test]
fn keys_are_rotated_without_a_lost_session() {
    let world = world("");
    let mut visitor = world.visitor();
    visitor.log_in(&world.issuer, "/", "ann");
    let config = yaml(&world.issuer.name(), &world.app, "");
    let new = "a new key of at least 32 characters";
    world.gateway.rewrite(&config.replace(&format!("['{KEY}']"), &format!("['{new}', '{KEY}']")));
    assert_eq!(world.gateway.reload().status, 200);
    assert_eq!(visitor.fetch("/").status, 200, "the old key opens");
    world.gateway.rewrite(&config.replace(&format!("['{KEY}']"), &format!("['{new}']")));
    assert_eq!(world.gateway.reload().status, 200);
    assert_eq!(visitor.fetch("/").status, 401, "a key that is gone opens nothing");
}

#[test]
fn userinfo_adds_to_the_claims() {
    let world = world("        userinfo: true");
    let mut visitor = world.visitor();
    visitor.log_in(&world.issuer, "/", "ann");
    assert_eq!(visitor.fetch("/").status, 200);
    let sent = visitor.open("/logout");
    assert_eq!(sent.status, 303);
    let mut other = world.visitor();
    let sent = other.open("/");
    let back = world.issuer.log_in(sent.field("location").unwrap(), "bob");
    assert_eq!(other.open(&format!("/oauth2/callback?{back}")).status, 502, "userinfo of somebody else");
}

#[test]
fn who_comes_by_another_name_is_told_where_to_log_in() {
    let world = world("");
    let request = "GET /a HTTP/1.1\r\nhost: other.example\r\naccept: text/html\r\nconnection: close\r\n\r\n";
    let answer = crate::harness::send(world.gateway.web(), request);
    assert_eq!(answer.status, 421);
    let place = format!("href=\"http://localhost:{}/a\"", world.gateway.web().port());
    assert!(answer.text().contains(&place), "{}", answer.text());
}
