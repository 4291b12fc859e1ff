//! `tollgate explain`: which route a request would take, why not the others, and which policies
//! would be in force, through the production compiler and router.

use super::caller::Caller;
use super::kept::{self, Answered};
use super::{complain, print};
use crate::config::{Config, Loader};
use crate::identity::Principal;
use crate::identity::certificate::{ClientCertificate, ClientTls};
use crate::message::normalize;
use crate::policy::authorize::Asked as Need;
use crate::policy::context::PolicyContext;
use crate::routing::{Found, Outcome, Query};
use crate::runtime::{Compiler, Listener, Route, Snapshot, Step, Target};
use crate::telemetry::metrics::{Metrics, MetricsSettings};
use crate::values::{ConfigPath, Name, Problem, pem};
use pingora_http::RequestHeader;
use rustls::pki_types::CertificateDer;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

/// The request that is asked about.
pub struct Asked {
    /// The method.
    pub method: String,
    /// An absolute URL, or a path.
    pub url: String,
    /// Header fields as `name: value`.
    pub headers: Vec<String>,
    /// Who asks.
    pub client: IpAddr,
    /// Where it comes in; default: the first listener.
    pub listener: Option<String>,
    /// Who calls.
    pub caller: Caller,
    /// The client's certificate: a PEM file.
    pub certificate: Option<PathBuf>,
    /// What the upstream answers, for the cache.
    pub answered: Answered,
}

pub(super) fn main(path: &Path, asked: &Asked) -> ExitCode {
    let compiler = Compiler::new(Metrics::new(&MetricsSettings::default(), 1));
    let compiled = match compiler.build(Loader::default().read(path)) {
        Ok((compiled, _)) => compiled,
        Err(report) => return failed(&report.to_string()),
    };
    match explain(&compiled.snapshot, asked) {
        Ok(text) => {
            print(&text);
            ExitCode::SUCCESS
        }
        Err(problem) => failed(&format!("tollgate: {problem}\n")),
    }
}

fn failed(text: &str) -> ExitCode {
    complain(text);
    ExitCode::FAILURE
}

/// The explanation, as text for people.
///
/// # Errors
/// The request is none, or there is no such listener.
pub fn explain(snapshot: &Snapshot, asked: &Asked) -> Result<String, Problem> {
    let listener = listener(snapshot, asked.listener.as_deref())?;
    let head = head(asked)?;
    let host = crate::message::authority::authority(&head);
    let options = snapshot.hosts.get(crate::message::authority::host(host)).map(|host| host.options);
    let path = normalize::normalize(head.uri.path(), options.unwrap_or_default())
        .map_err(|bad| Problem::new(format!("answered with 400: {bad}")))?;
    let query = Query {
        listener: listener.id,
        host,
        path: &path,
        method: &asked.method,
        head: &head,
        client: asked.client,
    };

    let mut out = String::new();
    let _ = writeln!(out, "{} {host}{path} by listener `{}`", asked.method, listener.name);
    if path != head.uri.path() {
        let _ = writeln!(out, "  normalised from {}", head.uri.path());
    }
    let explanation = snapshot.router.explain(&query);
    let _ = writeln!(out, "\nRoutes for this host and path, in the order in which they are tried:");
    if explanation.considered.is_empty() {
        let _ = writeln!(out, "  none");
    }
    for one in &explanation.considered {
        let route = snapshot.route(one.route);
        let mark = if one.outcome == Outcome::Chosen { "->" } else { "  " };
        let place = place(&snapshot.config, &ConfigPath::root().key("routes").key(&route.name));
        let _ = writeln!(out, "{mark} {} ({place}): {}", route.name, one.outcome);
    }
    match explanation.found {
        Found::Route { id, params } => {
            let tls = tls(listener, host, asked.certificate.as_deref())?;
            let certificate = tls.as_ref().and_then(|tls| tls.certificate.as_deref());
            let principal = asked.caller.principal(&snapshot.identity, certificate)?;
            let cx = PolicyContext {
                client: asked.client,
                secure: listener.tls.is_some(),
                tls: tls.map(Arc::new),
                principal: principal.map(Arc::new),
                normalised: Some(Box::from(&*path)),
                params,
                ..PolicyContext::new()
            };
            let route = snapshot.route(id);
            describe(&mut out, snapshot, listener, route, (&head, &cx));
            if let Some(cache) = route.chains.on(listener.id).cache() {
                kept::describe(&mut out, cache, (&head, &cx), &asked.answered)?;
            }
        }
        Found::MethodNotAllowed(allowed) => {
            let _ = writeln!(out, "\nAnswered with 405; allowed: {}", allowed.methods().join(", "));
        }
        Found::NotFound => out.push_str("\nAnswered with 404: no route holds.\n"),
    }
    Ok(out)
}

fn describe(
    out: &mut String,
    snapshot: &Snapshot,
    listener: &Listener,
    route: &Route,
    (head, cx): (&RequestHeader, &PolicyContext),
) {
    if let Some(config) = snapshot.config.routes.get(&route.name) {
        for (slot, name) in crate::routing::parameters(&config.matches).iter().enumerate() {
            let _ = writeln!(out, "   {name} = {}", cx.params.get(slot, cx.path(head)));
        }
    }
    let _ = writeln!(out, "\nPolicies in force, in the order in which they run:");
    let chain = route.chains.on(listener.id);
    if chain.origins().is_empty() {
        let _ = writeln!(out, "  none");
    }
    for origin in chain.origins() {
        let enforced = if origin.enforced { ", enforced" } else { "" };
        let _ = writeln!(out, "  {} ({}{enforced})", origin.name, place(&snapshot.config, &origin.path));
        let authorize = chain.authorizations().find(|(of, _)| *of == origin);
        if let Some((_, authorize)) = authorize {
            judge(out, &authorize.explain(head, cx), cx);
        }
    }
    let rates = chain.rate_limits().map(|(_, limit)| limit.explain(cx));
    let quotas = chain.quotas().map(|(_, quota)| quota.explain(cx));
    let floods = chain.floods().map(|(_, flood)| flood.explain());
    let limits: Vec<String> =
        floods.chain(rates).chain(quotas).chain(chain.bounds().map(|(_, bound)| bound.explain(cx))).collect();
    if !limits.is_empty() {
        let _ = writeln!(out, "\nLimits for this caller:");
    }
    for limit in limits {
        let _ = writeln!(out, "  {limit}");
    }
    let name = |at: &usize| snapshot.upstreams[*at].0.name.to_string();
    let target = match &route.target {
        Target::Upstream(at) => format!("upstream `{}`", name(at)),
        Target::Split(split) => {
            let names: Vec<String> = split.shares.iter().map(|(at, _)| format!("`{}`", name(at))).collect();
            format!("one of the upstreams {}, by weight", names.join(", "))
        }
        Target::Local(_) => "answered by the gateway itself".into(),
    };
    let _ = writeln!(out, "\nGoes to: {target}");
    let upstreams = match &route.target {
        Target::Upstream(at) => vec![*at],
        Target::Split(split) => split.shares.iter().map(|(at, _)| *at).collect(),
        Target::Local(_) => Vec::new(),
    };
    for upstream in upstreams.iter().map(name) {
        let config = snapshot.config.upstreams.iter().find(|(known, _)| known.as_str() == upstream);
        if let Some(limits) = config.and_then(|(_, config)| config.limits.as_ref()) {
            let _ = writeln!(out, "Room at `{upstream}`: {limits}");
        }
    }
    if let Some(fallback) = &route.fallback {
        let failures: Vec<String> = fallback.on().iter().map(ToString::to_string).collect();
        let steps = fallback.steps(0).iter().map(|step| match step {
            Step::Stale(most) => {
                format!(
                    "what the cache has, fresh {} ago at most",
                    crate::values::Duration::from_secs(most.as_secs())
                )
            }
            Step::Upstream(at) => format!("the upstream `{}`", name(at)),
            Step::Respond(respond) => format!("an answer of the gateway's own, {}", respond.status()),
        });
        let steps: Vec<String> = steps.collect();
        let _ = writeln!(out, "If that fails ({}): {}", failures.join(", "), steps.join(", then "));
    }
}

/// What is asked of the caller, and whether it has it.
fn judge(out: &mut String, needs: &[Need], cx: &PolicyContext) {
    let who = match cx.principal.as_deref() {
        None => "nobody (`--as`, `--claims` or `--certificate` says who calls)".to_owned(),
        Some(Principal { consumer: Some(consumer), .. }) => {
            let groups = if consumer.groups.is_empty() { String::new() } else { consumer.groups.join(", ") };
            let groups = if groups.is_empty() { groups } else { format!(" of the groups {groups}") };
            format!("consumer `{}`{groups}", consumer.name)
        }
        Some(principal) => format!("`{}`", principal.subject),
    };
    let denied = needs.iter().any(|need| need.denied.is_some());
    let _ = writeln!(out, "    {who}: {}", if denied { "refused" } else { "let in" });
    for need in needs {
        let _ = match &need.denied {
            None => writeln!(out, "    + {}", need.what),
            Some((cause, detail)) if *detail == need.what => writeln!(out, "    - {}: {cause}", need.what),
            Some((cause, detail)) => writeln!(out, "    - {}: {cause}, {detail}", need.what),
        };
    }
}

/// File and line, or the path itself where something is in no file.
fn place(config: &Config, path: &ConfigPath) -> String {
    config
        .place(path)
        .map_or_else(|| path.to_string(), |spot| format!("{}:{}", spot.file.display(), spot.line))
}

fn listener<'s>(snapshot: &'s Snapshot, name: Option<&str>) -> Result<&'s Listener, Problem> {
    let mut all = snapshot.listeners.iter().flatten();
    match name {
        None => all.next().ok_or_else(|| Problem::new("the configuration has no listener")),
        Some(name) => all.find(|listener| listener.name.as_str() == name).ok_or_else(|| {
            Problem::unknown("listener", name, snapshot.config.listeners.keys().map(Name::as_str))
        }),
    }
}

/// What TLS would have settled.
fn tls(listener: &Listener, host: &str, certificate: Option<&Path>) -> Result<Option<ClientTls>, Problem> {
    let Some(tls) = &listener.config.tls else {
        return match certificate {
            None => Ok(None),
            Some(_) => Err(Problem::new(format!("the listener `{}` speaks no TLS", listener.name))
                .remedy("name another one by `--listener`, or take `--certificate` away")),
        };
    };
    if certificate.is_some() && tls.client.is_none() {
        let problem =
            Problem::new(format!("the listener `{}` asks for no client certificates", listener.name));
        return Err(problem.remedy("give it `tls: { client: { ca: clients.pem } }`"));
    }
    let parse = |path: &Path| {
        let chain = pem::pem_items::<CertificateDer<'static>>(path, "certificate")?;
        let parsed = chain.first().and_then(ClientCertificate::parse);
        parsed
            .map(Box::new)
            .ok_or_else(|| Problem::new(format!("`{}` has no certificate that can be read", path.display())))
    };
    Ok(Some(ClientTls {
        sni: Some(crate::message::authority::host(host).to_ascii_lowercase()),
        version: "TLSv1.3",
        certificate: certificate.map(parse).transpose()?,
        ..ClientTls::default()
    }))
}

fn head(asked: &Asked) -> Result<RequestHeader, Problem> {
    let wrong = |what: &str| Problem::new(format!("`{what}` cannot be asked about"));
    let uri: http::Uri = asked.url.parse().map_err(|_| {
        wrong(&asked.url).remedy("write a URL such as `http://api.example.com/orders/7`, or a path")
    })?;
    let target = uri.path_and_query().map_or("/", |target| target.as_str());
    let mut head = RequestHeader::build(asked.method.as_str(), target.as_bytes(), None)
        .map_err(|_| wrong(&asked.method).remedy("write a method such as `GET`"))?;
    if let Some(authority) = uri.authority() {
        head.insert_header("host", authority.as_str()).map_err(|_| wrong(authority.as_str()))?;
    }
    for field in &asked.headers {
        let split =
            field.split_once(':').map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned()));
        let (name, value) = split.ok_or_else(|| wrong(field).remedy("write a field as `name: value`"))?;
        head.append_header(name, value).map_err(|_| wrong(field))?;
    }
    Ok(head)
}
