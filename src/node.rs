//! The node: builds the layers, wires them, stops them in order. Nothing else knows all of them.
//!
//! Start: configuration, log, HTTP port, store (recovered), the store's threads, the housekeeper, replication links, the cluster, client threads.
//! Stop, in the opposite order: clients end after their turn, other nodes take over what this one is primary of, replicas get the rest, the journal is synced, a checkpoint unless it is unwanted, the threads.

use crate::base::{clock, crash_point};
use crate::config::load::Loaded;
use crate::config::{Parameters, Settings};
use crate::observability::logging::{self, Format};
use crate::server::cluster::ClusterThreads;
use crate::server::housekeeping;
use crate::server::http::{HttpPort, Stage};
use crate::server::peer::Links;
use crate::server::runtime::ClientThreads;
use crate::server::supervisor::Told;
use crate::session::descriptors::allow_clients;
use crate::session::imported::Imported;
use crate::session::service::Service;
use crate::store::{Background, Store};
use crate::tools::{Folder, import};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::signal::unix::{SignalKind, signal};

/// How long a stop may take for a checkpoint, which only makes the next start quicker: `docker stop` waits ten seconds.
const CHECKPOINT_AT_STOP_MAX: Duration = Duration::from_secs(3);

/// Why the node could not run, in words.
#[derive(Debug)]
pub struct StartError(pub String);

impl std::fmt::Display for StartError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for StartError {}

/// Runs a node until it is told to stop.
pub fn run(loaded: Loaded) -> Result<(), StartError> {
    let begun = Instant::now();
    let settings = loaded.parameters.snapshot();
    let format = if settings.logs_json { Format::Json } else { Format::Text };
    logging::start(settings.loglevel.name(), &settings.logfile, format).map_err(|error| {
        StartError(format!("cannot open the log {}: {error}", settings.logfile.display()))
    })?;
    tracing::info!("Larder {} is starting", env!("CARGO_PKG_VERSION"));
    loaded.notices.iter().for_each(|notice| tracing::warn!("{notice}"));
    refuse_users(&loaded.parameters)?;
    crate::commands::table::rename(loaded.parameters.renamed_commands()).map_err(StartError)?;
    fit_descriptors(&loaded.parameters)?;
    outlive_file_size_limits()?;
    let settings = loaded.parameters.snapshot();

    let http = HttpPort::start(&settings).map_err(failed("listen for HTTP (http-port, http-bind)"))?;
    let folder = Folder::of(&loaded.parameters);
    http.reach(Stage::Starting("what Redis left in the data folder is being imported, if it left anything"));
    adopt_old_data(&settings, &folder)?;
    http.reach(Stage::Starting("the data is being opened"));
    let store = Store::open(&folder.path, folder.partitions, folder.databases, folder.options)
        .map_err(|error| StartError(error.to_string()))?;
    let status = store.status();
    let store = Arc::new(store);
    let mut background = Background::start(&store).map_err(failed("start the store's threads"))?;
    let service =
        Arc::new(Service::new(loaded.parameters, Arc::clone(&store), crate::commands::table::full_names()));
    if let Some(imported) = Imported::read(&settings.dir) {
        service.note_import(imported);
    }
    stop_on_signals(&service)?;
    let housekeeper = housekeeping::start(&service).map_err(failed("start the housekeeper"))?;
    let links = Links::start(&service, &settings.dir).map_err(failed("start replication"))?;
    let cluster =
        ClusterThreads::start(&service, &settings.dir).map_err(failed("take part in the cluster"))?;
    let clients = ClientThreads::start(&service).map_err(|error| {
        tracing::error!("Failed listening on port {} (tcp), aborting.", settings.port);
        failed("listen")(error)
    })?;
    http.reach(Stage::Serving(Arc::clone(&service)));
    let told = Told::ready(&settings);
    // Process supervisors and test suites written for redis-server wait for this and take the process id from it. It comes
    // after `listen`: they connect at once, and try another port if that one was taken.
    tracing::info!("Listening, PID: {}", std::process::id());
    tracing::info!(
        "Ready to accept connections on {:?} after {} ms; {} records replayed, node {}",
        clients.addresses(),
        begun.elapsed().as_millis(),
        status.recovered_records,
        store.node()
    );

    clients.join();
    told.stopping();
    service.stop.order(service.stop.is_without_save()); // in case the client threads ended by themselves
    if housekeeper.join().is_err() {
        tracing::error!("the housekeeper ended by a panic");
    }
    if let Some(cluster) = &cluster {
        cluster.hand_over();
    }
    links.stop(Duration::from_secs(u64::from(settings.shutdown_timeout)));
    if let Some(cluster) = cluster {
        cluster.stop();
    }
    crash_point::pass("stop-before-sync");
    let synced = store.sync();
    crash_point::pass("stop-before-checkpoint");
    if !service.stop.is_without_save()
        && let Err(error) = store.checkpoint_before(Instant::now() + CHECKPOINT_AT_STOP_MAX)
    {
        tracing::error!("no checkpoint at the end ({error}); the journal has everything");
    }
    background.stop();
    http.stop();
    tracing::info!("Larder is now ready to exit, bye bye...");
    synced.map_err(|error| StartError(format!("the journal could not be synced at the end: {error:?}")))
}

/// Imports what a server of Redis left in the folder, at the first start there. Whoever gets his data from others does not.
fn adopt_old_data(settings: &Settings, folder: &Folder) -> Result<(), StartError> {
    if settings.cluster.is_on() || settings.replicaof.is_some() {
        return import::clear_interrupted(&folder.path).map_err(StartError);
    }
    if let Some(report) = import::adopt(folder, clock::unix_ms()).map_err(StartError)? {
        tracing::info!("{}; what was read is left as it is", report.text);
        report.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
    }
    Ok(())
}

/// `user` directives name passwords and what is allowed with them. To go on without would leave the server open.
fn refuse_users(parameters: &Parameters) -> Result<(), StartError> {
    let Some(user) = parameters.users().first() else { return Ok(()) };
    let name = user.first().map_or("", |name| std::str::from_utf8(name).unwrap_or("?"));
    Err(StartError(format!(
        "users are not there yet: use requirepass, and leave out the directive 'user {name} ...'"
    )))
}

fn failed(what: &str) -> impl Fn(std::io::Error) -> StartError {
    move |error| StartError(format!("cannot {what}: {error}"))
}

/// SIGTERM and SIGINT ask for the stop; SIGPIPE and SIGHUP do nothing.
fn stop_on_signals(service: &Arc<Service>) -> Result<(), StartError> {
    let service = Arc::clone(service);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(failed("wait for signals"))?;
    // Before the thread runs: from the moment the server is ready, a signal must not end it otherwise than in order.
    let watch = |kind| {
        let _inside = runtime.enter();
        signal(kind).map_err(failed("wait for signals"))
    };
    let mut terminate = watch(SignalKind::terminate())?;
    let mut interrupt = watch(SignalKind::interrupt())?;
    let mut hangup = watch(SignalKind::hangup())?;
    let run = move || {
        runtime.block_on(async {
            let ordered = service.stop.token();
            loop {
                let name = tokio::select! {
                    _ = terminate.recv() => "SIGTERM",
                    _ = interrupt.recv() => "SIGINT",
                    _ = hangup.recv() => continue,
                    () = ordered.cancelled() => return,
                };
                tracing::info!("Received {name} scheduling shutdown...");
                service.stop.ask();
            }
        });
    };
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(run)
        .map(|_| ())
        .map_err(failed("wait for signals"))
}

/// A write beyond the limit of file sizes (`ulimit -f`) is to be an error, as of a full disk, and not the end.
fn outlive_file_size_limits() -> Result<(), StartError> {
    /// SIGXFSZ, on every architecture that Linux has but three of the past.
    const FILE_SIZE_EXCEEDED: i32 = 25;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(failed("watch signals"))?;
    let _inside = runtime.enter();
    // Once watched, a signal does not end the process any more, whether anybody listens or not.
    signal(SignalKind::from_raw(FILE_SIZE_EXCEEDED)).map(|_| ()).map_err(failed("watch signals"))
}

/// Makes sure that `maxclients` clients fit; lowers it to what the system allows otherwise.
fn fit_descriptors(parameters: &Parameters) -> Result<(), StartError> {
    let settings = parameters.snapshot();
    let Err(possible) = allow_clients(&settings) else { return Ok(()) };
    if possible == 0 {
        return Err(StartError("the limit of open files (ulimit -n) leaves no room for clients".to_owned()));
    }
    tracing::warn!(
        "maxclients is {possible} instead of {}: the limit of open files (ulimit -n) allows no more",
        settings.maxclients
    );
    let text = possible.to_string();
    let lowered = parameters.set(&[(b"maxclients", text.as_bytes())], true, |_, _| Ok(()));
    lowered.map(|_| ()).map_err(StartError)
}
