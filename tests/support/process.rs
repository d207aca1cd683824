//! Server processes: started on a free port and a folder of their own, awaited, killed, started again, gone with the test.

use super::Client;
use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const START_WITHIN: Duration = Duration::from_secs(60);
const STOP_WITHIN: Duration = Duration::from_secs(60);

/// Where ports are looked for: below those the system gives to outgoing connections, of which the tests make thousands.
/// `TEST_PORTS=FIRST-LAST` keeps to others.
const PORTS: std::ops::Range<u16> = 12_000..32_000;

fn ports() -> std::ops::Range<u16> {
    let Ok(text) = std::env::var("TEST_PORTS") else { return PORTS };
    let (first, last) = text.split_once('-').expect("TEST_PORTS=FIRST-LAST");
    let port = |text: &str| text.parse::<u16>().expect("TEST_PORTS=FIRST-LAST");
    port(first)..port(last) + 1
}

/// A port nobody listens on, and that no other server of this process was given.
pub fn free_port() -> u16 {
    static GIVEN: AtomicU16 = AtomicU16::new(0);
    let ports = ports();
    loop {
        let start = std::process::id() as u16 % 200 * 100;
        let port =
            ports.start + start.wrapping_add(GIVEN.fetch_add(1, Ordering::Relaxed)) % ports.len() as u16;
        if TcpListener::bind(("0.0.0.0", port)).is_ok() {
            return port;
        }
    }
}

/// How a server is started, where its flags are not all there is to say.
#[derive(Clone, Default)]
pub struct Launch {
    flags: Vec<String>,
    variables: Vec<(String, String)>,
    data: Option<PathBuf>,
    /// Shell commands that come first, in the same process: limits, groups.
    prelude: Option<String>,
}

impl Launch {
    /// With these flags.
    pub fn with(flags: &[&str]) -> Launch {
        Launch { flags: flags.iter().map(ToString::to_string).collect(), ..Launch::default() }
    }

    /// With this environment variable.
    pub fn variable(mut self, name: &str, value: &str) -> Launch {
        self.variables.push((name.into(), value.into()));
        self
    }

    /// With its data in this folder instead of one that goes with the test.
    pub fn data(mut self, folder: &Path) -> Launch {
        self.data = Some(folder.into());
        self
    }

    /// After these shell commands, in the same process.
    pub fn prelude(mut self, commands: &str) -> Launch {
        self.prelude = Some(commands.into());
        self
    }
}

/// A server process and its folder.
pub struct Server {
    program: PathBuf,
    process: Child,
    /// Where it listens.
    pub port: u16,
    launch: Launch,
    folder: TempDir,
    password: Option<String>,
}

impl Server {
    /// Larder with these flags, ready.
    pub fn start(flags: &[&str]) -> Server {
        Server::start_program(larder(), flags)
    }

    /// Larder with a configuration file, ready.
    pub fn start_with_file(file: &Path) -> Server {
        Server::start_program(larder(), &[&file.to_string_lossy()])
    }

    /// The reference server with these flags, ready; it keeps nothing, and cannot take all memory of the machine. `REFERENCE_SERVER` names
    /// another program than the installed one.
    pub fn start_reference(flags: &[&str]) -> Server {
        let flags = [["--save", "", "--appendonly", "no"].as_slice(), flags].concat();
        let launch = Launch::with(&flags).prelude("ulimit -d 8000000");
        let program = std::env::var_os("REFERENCE_SERVER").unwrap_or_else(|| "redis-server".into());
        Server::try_start(PathBuf::from(program), launch).unwrap_or_else(|why| panic!("{why}"))
    }

    /// The program of Larder.
    pub fn program() -> PathBuf {
        larder()
    }

    fn start_program(program: PathBuf, flags: &[&str]) -> Server {
        Server::try_start(program, Launch::with(flags)).unwrap_or_else(|why| panic!("{why}"))
    }

    /// Larder launched so, ready.
    pub fn launch(launch: Launch) -> Server {
        Server::try_launch(launch).unwrap_or_else(|why| panic!("{why}"))
    }

    /// The same, or what it said when it ended at its start.
    pub fn try_launch(launch: Launch) -> Result<Server, String> {
        Server::try_start(larder(), launch)
    }

    fn try_start(program: PathBuf, launch: Launch) -> Result<Server, String> {
        let folder = TempDir::new().expect("the system has room for a folder");
        let port = free_port();
        let flags = &launch.flags;
        let password = flags.iter().position(|flag| flag == "--requirepass").map(|at| flags[at + 1].clone());
        let process = spawn(&program, port, folder.path(), &launch);
        let mut server = Server { program, process, port, launch, folder, password };
        server.wait_ready()?;
        Ok(server)
    }

    /// Runs Larder with exactly these arguments until it ends by itself.
    pub fn run_to_end(arguments: &[&str]) -> Finished {
        finish(server_command(&larder()).args(arguments), b"", STOP_WITHIN)
    }

    fn wait_ready(&mut self) -> Result<(), String> {
        let end = Instant::now() + START_WITHIN;
        loop {
            if let Some(status) = self.process.try_wait().expect("the process is ours") {
                return Err(format!(
                    "{} ended at its start, {status}:\n{}",
                    self.program.display(),
                    self.log()
                ));
            }
            let answer = Client::try_connect(self.port).and_then(|mut client| client.try_ask(&["PING"]));
            match answer.map(|value| value.to_string()) {
                Ok(text) if text == "PONG" || text.starts_with("-NOAUTH") => return Ok(()),
                _ => assert!(Instant::now() < end, "it does not answer:\n{}", self.log()),
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// A new connection, authenticated if the server wants that.
    pub fn connect(&self) -> Client {
        let mut client = Client::try_connect(self.port).expect("the server accepts connections");
        if let Some(password) = &self.password {
            client.expect(&["AUTH", password], "OK");
        }
        client
    }

    /// Its folder; the data is in `data` below it.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        self.process.kill().expect("the process is ours");
        self.process.wait().expect("the process is ours");
    }

    /// SIGTERM, and its end.
    pub fn terminate(&mut self) -> ExitStatus {
        self.signal(rustix::process::Signal::TERM);
        self.wait_end()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.process);
        rustix::process::kill_process(pid, signal).expect("the process is ours");
    }

    /// Waits until it ends by itself.
    pub fn wait_end(&mut self) -> ExitStatus {
        let end = Instant::now() + STOP_WITHIN;
        loop {
            if let Some(status) = self.process.try_wait().expect("the process is ours") {
                return status;
            }
            assert!(Instant::now() < end, "it does not end:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Starts it again on the same folder, once it has ended.
    pub fn start_again(&mut self) {
        assert!(self.process.try_wait().expect("the process is ours").is_some(), "it still runs");
        self.process = spawn(&self.program, self.port, self.folder.path(), &self.launch);
        self.wait_ready().unwrap_or_else(|why| panic!("{why}"));
    }

    /// Starts it again, with this environment variable for once, and waits until it ends by itself. For starts that must not succeed.
    pub fn start_to_end(&mut self, variable: (&str, &str)) -> ExitStatus {
        self.spawn_with(variable);
        self.wait_end()
    }

    /// Starts it again on the same folder, with this environment variable for once. Whether it is ready: it may have ended.
    pub fn start_again_with(&mut self, variable: (&str, &str)) -> bool {
        self.spawn_with(variable);
        self.wait_ready().is_ok()
    }

    fn spawn_with(&mut self, (name, value): (&str, &str)) {
        assert!(self.process.try_wait().expect("the process is ours").is_some(), "it still runs");
        let launch = self.launch.clone().variable(name, value);
        self.process = spawn(&self.program, self.port, self.folder.path(), &launch);
    }

    /// The number of its process.
    pub fn process_id(&self) -> u32 {
        self.process.id()
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        self.process.try_wait().expect("the process is ours").is_none()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already; then there is nothing to do.
        let _ = self.process.kill();
        let _ = self.process.wait();
        if std::thread::panicking() {
            eprintln!("--- log of {} on port {}:\n{}", self.program.display(), self.port, self.log());
        }
    }
}

/// Variables that mean something to the tests: to the server each `LARDER_` variable is a directive.
const OURS: [&str; 10] = [
    "LARDER_DAMAGES",
    "LARDER_KILLS",
    "LARDER_LOSSES",
    "LARDER_ROUNDS",
    "LARDER_SEED",
    "LARDER_SECONDS",
    "LARDER_KEEP_GOING",
    "LARDER_TEST_BINARY",
    "TEST_PORTS",
    "LARDER_LONG",
];

/// A command that runs a server and sees none of our variables.
fn server_command(program: &Path) -> Command {
    let mut command = Command::new(program);
    OURS.iter().for_each(|name| {
        command.env_remove(name);
    });
    command
}

fn larder() -> PathBuf {
    std::env::var_os("LARDER_TEST_BINARY")
        .map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_larder")), PathBuf::from)
}

fn spawn(program: &Path, port: u16, folder: &Path, launch: &Launch) -> Child {
    let data = launch.data.clone().unwrap_or_else(|| folder.join("data"));
    std::fs::create_dir_all(&data).expect("the folder is ours");
    let log = || {
        let mut options = File::options();
        options.create(true).append(true).open(folder.join("log")).expect("the folder is ours")
    };
    let flags = &launch.flags;
    // A configuration file stands before all flags.
    let (file, flags) =
        flags.split_at(usize::from(flags.first().is_some_and(|flag| !flag.starts_with("--"))));
    let mut command = match &launch.prelude {
        None => server_command(program),
        Some(prelude) => {
            let mut shell = server_command(Path::new("bash"));
            shell.arg("-c").arg(format!("set -e; {prelude}\nexec \"$0\" \"$@\"")).arg(program);
            shell
        }
    };
    command
        .args(file)
        .args(["--port", &port.to_string(), "--dir"])
        .arg(&data)
        .args(flags)
        .envs(launch.variables.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .stdout(log())
        .stderr(log())
        .spawn()
        .unwrap_or_else(|error| {
            panic!("{}: {error}; `bash tests/run` installs what is needed", program.display())
        })
}

/// What a process left behind.
#[derive(Debug)]
pub struct Finished {
    /// How it ended.
    pub status: ExitStatus,
    /// Standard output.
    pub output: String,
    /// Standard error.
    pub errors: String,
}

/// Runs a command with this input to its end; fails if it takes longer than `within`.
pub fn finish(command: &mut Command, input: &[u8], within: Duration) -> Finished {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?}: {error}; `bash tests/run` installs what is needed"));
    let mut stdin = child.stdin.take().expect("it is piped");
    let (mut stdout, mut stderr) =
        (child.stdout.take().expect("it is piped"), child.stderr.take().expect("it is piped"));
    let (output, errors) = std::thread::scope(|scope| {
        let output = scope.spawn(move || read_all(&mut stdout));
        let errors = scope.spawn(move || read_all(&mut stderr));
        scope.spawn(move || stdin.write_all(input));
        let end = Instant::now() + within;
        while child.try_wait().expect("the process is ours").is_none() {
            if Instant::now() > end {
                child.kill().expect("the process is ours");
                panic!("{command:?} did not end within {within:?}");
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        (output.join().expect("it only reads"), errors.join().expect("it only reads"))
    });
    Finished { status: child.wait().expect("the process is ours"), output, errors }
}

fn read_all(from: &mut impl Read) -> String {
    let mut bytes = Vec::new();
    from.read_to_end(&mut bytes).expect("a pipe can be read");
    String::from_utf8_lossy(&bytes).into_owned()
}
