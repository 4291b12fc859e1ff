//! The commands, one file each.

mod caller;
mod check;
mod demo;
mod explain;
mod hash;
mod issuer;
mod kept;
mod run;
mod schema;
mod token;
mod upgrade;

use clap::{Parser, Subcommand};
use std::ffi::OsString;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

/// An API gateway: one binary, one YAML file.
#[derive(Debug, Parser)]
#[command(name = "tollgate", version, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
#[expect(clippy::large_enum_variant, reason = "there is one, and it is made once")]
enum Command {
    /// Serve a configuration
    Run {
        /// A YAML file, or a folder of them
        #[arg(short, long, value_name = "PATH")]
        config: PathBuf,
        /// Take over from the gateway that runs, at the configuration's control socket or at this one
        #[arg(long, value_name = "SOCKET", num_args = 0..=1, require_equals = true)]
        #[expect(clippy::option_option, reason = "given, given with a value, or not: clap's own form")]
        upgrade: Option<Option<PathBuf>>,
    },
    /// Have a new process take over from the gateway that runs, without a lost request
    Upgrade {
        /// What the new process is to serve: a YAML file, or a folder of them
        #[arg(short, long, value_name = "PATH")]
        config: PathBuf,
        /// Another binary than the one that the running gateway was started from
        #[arg(long, value_name = "PATH")]
        binary: Option<PathBuf>,
        /// The running gateway's control socket, if it is not the configuration's
        #[arg(long, value_name = "SOCKET")]
        control: Option<PathBuf>,
    },
    /// Serve conf/gateway.yaml with two origins and an issuer of tokens of its own on loopback: nothing else needed
    Demo {
        /// Another configuration to serve with them
        #[arg(short, long, value_name = "PATH", default_value = "conf/gateway.yaml")]
        config: PathBuf,
    },
    /// Find what is wrong with a configuration; exit code 0, or 1 if something is
    Check {
        /// A YAML file, or a folder of them
        #[arg(short, long, value_name = "PATH")]
        config: PathBuf,
        /// How to report
        #[arg(long, value_enum, default_value_t = check::Format::Text)]
        format: check::Format,
    },
    /// Say which route a request would take, why not the others, and which policies are in force
    Explain {
        /// A YAML file, or a folder of them
        #[arg(short, long, value_name = "PATH")]
        config: PathBuf,
        /// The method, such as GET
        method: String,
        /// The URL, such as http://api.example.com/orders/7
        url: String,
        /// A header field, such as 'x-channel: mobile'; may be repeated
        #[arg(short = 'H', long = "header", value_name = "FIELD")]
        headers: Vec<String>,
        /// The client's address
        #[arg(long, default_value = "127.0.0.1")]
        client: std::net::IpAddr,
        /// The listener that it comes in by; default: the first
        #[arg(long)]
        listener: Option<String>,
        /// Who calls: a consumer, by name
        #[arg(long = "as", value_name = "CONSUMER")]
        consumer: Option<String>,
        /// The certificate that the client shows: a PEM file; it says who calls if nothing else does
        #[arg(long, value_name = "FILE")]
        certificate: Option<PathBuf>,
        /// Who calls: the claims of a token, as JSON, or @FILE
        #[arg(long, value_name = "JSON")]
        claims: Option<String>,
        /// The provider that the token is of
        #[arg(long, value_name = "NAME", requires = "claims")]
        provider: Option<String>,
        /// The status of an answer, to learn whether the cache would keep it
        #[arg(long, value_name = "STATUS")]
        answer: Option<u16>,
        /// A header field of that answer, such as 'cache-control: max-age=60'; may be repeated
        #[arg(long = "answer-header", value_name = "FIELD", requires = "answer")]
        answer_headers: Vec<String>,
        /// A scope of the token besides those in its claims; may be repeated
        #[arg(long = "scope", value_name = "NAME")]
        scopes: Vec<String>,
    },
    /// Print a token of the issuer that a running demo has
    Token {
        /// Whose it is
        #[arg(default_value = "alice")]
        subject: String,
        /// What it is for, such as 'orders:read orders:write'
        #[arg(long)]
        scope: Option<String>,
        /// How long it counts, in seconds
        #[arg(long, value_name = "SECONDS", default_value_t = 3600)]
        expires_in: u64,
        /// A further claim, such as tier=gold or 'roles=["admin"]'; may be repeated
        #[arg(long = "claim", value_name = "NAME=VALUE")]
        claims: Vec<String>,
    },
    /// Read a password from standard input and print its hash, for a consumer's `basic` credential
    Hash {
        /// How to hash it
        #[arg(long, value_enum, default_value_t = hash::Algorithm::Argon2id)]
        algorithm: hash::Algorithm,
    },
    /// Print the JSON Schema of the configuration
    Schema,
}

/// Runs a command line. The exit code is 0, 1 for what is wrong with a configuration or at run
/// time, 2 for a command line that is none.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    match arguments.command {
        Command::Run { config, upgrade } => run::main(&config, upgrade),
        Command::Upgrade { config, binary, control } => upgrade::main(&config, binary.as_deref(), control),
        Command::Demo { config } => demo::main(&config),
        Command::Check { config, format } => check::main(&config, format),
        Command::Explain {
            config,
            method,
            url,
            headers,
            client,
            listener,
            consumer,
            certificate,
            claims,
            provider,
            scopes,
            answer,
            answer_headers,
        } => {
            let caller = caller::Caller { consumer, claims, provider, scopes };
            let answered = kept::Answered { status: answer, headers: answer_headers };
            let asked =
                explain::Asked { method, url, headers, client, listener, caller, certificate, answered };
            explain::main(&config, &asked)
        }
        Command::Token { subject, scope, expires_in, claims } => {
            token::main(&token::Asked { subject, scope, expires_in, claims })
        }
        Command::Hash { algorithm } => hash::main(algorithm),
        Command::Schema => schema::main(),
    }
}

/// Prints to standard output. A reader that went away is not our trouble.
fn print(text: &str) {
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
}

/// Prints to standard error.
fn complain(text: &str) {
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
}
