//! What an upgrade needs of the composition root: the sockets that are taken over, the two services,
//! and how this process ends.

use super::{Ending, Handle, Stop, Upgrade, Warm};
use crate::background::handover::{self, Control, ControlService, Joining, Serving, TakeOver};
use crate::background::supervisor::Supervisor;
use crate::config::Config;
use crate::retained::Retained;
use crate::runtime::Snapshot;
use crate::values::{ConfigPath, Finding, Problem};
use parking_lot::Mutex;
use pingora_core::server::Server;
use pingora_core::services::background::background_service;
use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// What is known of an upgrade before anything runs.
pub(super) struct Begun {
    config: PathBuf,
    control: Option<Control>,
    joining: Option<Joining>,
}

/// How the upgrade that this process was started for went.
pub(super) struct Outcome {
    failed: Arc<AtomicBool>,
    control: Option<Arc<Control>>,
}

impl Begun {
    /// Begins the hand-over if there is to be one, and binds the control socket.
    pub fn new(path: &Path, config: &Config, upgrade: Option<&Upgrade>) -> Result<Self, Finding> {
        let wrong = |problem| Finding::error(ConfigPath::root().key("process").key("control"), problem);
        let own = config.process.control.as_deref();
        let joining = match upgrade {
            None => None,
            Some(from) => {
                let none = || {
                    wrong(Problem::new("there is no control socket to take over by").remedy(
                        "set `process.control`, here and in the configuration of the process that runs",
                    ))
                };
                let from = from.as_deref().or(own).ok_or_else(none)?;
                Some(handover::join(from).map_err(wrong)?)
            }
        };
        if let Some((pid, own)) =
            own.filter(|_| joining.is_none()).and_then(|own| Some((handover::serves(own)?, own)))
        {
            let what = format!("process {pid} serves with the control socket `{}`", own.display());
            return Err(wrong(Problem::new(what).remedy(
                "take over from it with `tollgate upgrade`, stop it, or name another control socket",
            )));
        }
        let control = own.map(Control::bind).transpose().map_err(wrong)?;
        let config = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        Ok(Self { config, control, joining })
    }

    /// True if there is a process to take over from.
    pub const fn is_joining(&self) -> bool {
        self.joining.is_some()
    }

    /// Adds what the process that serves has given to the sockets that are bound already.
    pub fn inherit(&mut self, snapshot: &Snapshot, sockets: &mut BTreeMap<String, TcpListener>) {
        let Some(joining) = &mut self.joining else { return };
        for listener in snapshot.listeners.iter().flatten() {
            let name = listener.name.as_str();
            if let Some(socket) = joining.take(name, listener.config.address, false) {
                sockets.insert(name.to_owned(), socket);
            }
        }
        let admin = snapshot.config.admin.as_ref();
        if let Some(socket) = admin.and_then(|admin| joining.take("admin", admin.address, true)) {
            sockets.insert("admin".to_owned(), socket);
        }
    }

    /// Adds the services; opens the gates at once where nobody is taken over from.
    pub fn serve(
        self,
        server: &mut Server,
        handle: &Handle,
        (turn, patience): (Arc<tokio::sync::Mutex<()>>, Duration),
        (warm, retained, supervisor): (Warm, Arc<Retained>, Supervisor),
    ) -> Outcome {
        let Self { config, control, joining } = self;
        let failed = Arc::<AtomicBool>::default();
        let control = control.map(Arc::new);
        if let Some(control) = &control {
            let draining = handle.clone();
            let serving = Serving {
                listeners: handle.listeners.clone(),
                admin: handle.admin.clone(),
                turn,
                patience,
                binary: std::env::current_exe().unwrap_or_else(|_| "tollgate".into()),
                config,
                state: Arc::clone(&retained),
                handed_over: {
                    let supervisor = supervisor.clone();
                    Box::new(move |pid| {
                        supervisor.hand_over(pid);
                        draining.stop();
                    })
                },
            };
            server.add_service(background_service(
                "control",
                ControlService::new(Arc::clone(control), serving),
            ));
        }
        let publish = {
            let control = control.clone();
            move || control.as_ref().map_or(Ok(()), |control| control.publish())
        };
        match joining {
            None => {
                if let Err(error) = publish() {
                    log::error!("the control socket is not in its place, no upgrade is possible: {error}");
                }
                handle.listeners.open();
                handle.admin.open();
            }
            Some(joining) => {
                let (failed, ending) = (Arc::clone(&failed), handle.clone());
                let silent = supervisor.clone();
                let take_over = TakeOver {
                    joining: Mutex::new(Some(joining)),
                    listeners: handle.listeners.clone(),
                    admin: handle.admin.clone(),
                    warm: Box::new(move || {
                        let warm = warm.clone();
                        Box::pin(async move { warm.wait().await })
                    }),
                    state: Arc::new(move |state| retained.import(state)),
                    publish: Box::new(move || {
                        supervisor.ready(Some("serving"));
                        publish()
                    }),
                    failed: Box::new(move |error| {
                        silent.fall_silent();
                        log::error!("no hand-over, this process ends: {error}");
                        failed.store(true, Ordering::Release);
                        ending.stop.send_replace(Stop::Gracefully);
                    }),
                    patience,
                };
                server.add_service(background_service("take-over", take_over));
            }
        }
        Outcome { failed, control }
    }
}

impl Outcome {
    /// To be called when the server has ended.
    pub fn end(self) -> Ending {
        if let Some(control) = &self.control {
            control.remove();
        }
        if self.failed.load(Ordering::Acquire) { Ending::NotTakenOver } else { Ending::Stopped }
    }
}
