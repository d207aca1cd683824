//! The nodes of a cluster as processes, each on a host of its own, and how to wait for what they become.

use crate::lab::{Lab, address};
use crate::support::{Client, Server, wait_until};
use rustix::process::{Pid, Signal};
use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const PORT: u16 = 6379;
const BUS_PORT: u16 = PORT + 10_000;
/// How long anything may take that must come by itself.
pub const WITHIN: Duration = Duration::from_mins(1);
const STOP_WITHIN: Duration = Duration::from_mins(1);

struct Node {
    /// Last part of its address.
    at: usize,
    process: Option<Child>,
    data: PathBuf,
}

/// A cluster, gone when it is dropped. Nodes are numbered from 1, as their hosts.
pub struct Fleet {
    /// Its network.
    pub lab: Lab,
    nodes: Vec<Node>,
    flags: Vec<String>,
    mounts: Vec<PathBuf>,
    folder: TempDir,
}

impl Fleet {
    /// So many nodes with these flags, one of them primary, the others in step.
    pub fn start(count: usize, flags: &[&str]) -> Fleet {
        Fleet::prepare(count, flags).started()
    }

    /// The same, not started yet.
    pub fn prepare(count: usize, flags: &[&str]) -> Fleet {
        let folder = TempDir::new().expect("the system has room for a folder");
        let nodes = (1..=count).map(|number| {
            let data = folder.path().join(format!("data-{number}"));
            std::fs::create_dir_all(&data).expect("the folder is ours");
            Node { at: number, process: None, data }
        });
        let nodes = nodes.collect();
        let flags = flags.iter().map(ToString::to_string).collect();
        Fleet { lab: Lab::new(count), nodes, flags, mounts: Vec::new(), folder }
    }

    /// Gives a node that does not run an empty disk of this size, as `48m`.
    pub fn mount(&mut self, number: usize, size: &str) {
        let data = self.data(number).to_owned();
        let options = format!("size={size}");
        let status = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(&data).status();
        let is_there = status.is_ok_and(|status| status.success());
        assert!(
            is_there,
            "a file system in memory cannot be mounted, and this test needs one: it takes root"
        );
        self.mounts.push(data);
    }

    /// Starts all nodes, and waits until the cluster is there.
    pub fn started(mut self) -> Fleet {
        self.everybody().into_iter().for_each(|number| self.start_node(number));
        if self.is_spread() {
            self.await_spread();
        } else {
            self.await_whole();
        }
        self
    }

    /// Whether primaries are spread over the nodes, as in Redis Cluster.
    pub fn is_spread(&self) -> bool {
        self.flags.windows(2).any(|pair| pair[0] == "--cluster-enabled" && pair[1] == "yes")
    }

    /// All numbers.
    pub fn everybody(&self) -> Vec<usize> {
        (1..=self.nodes.len()).collect()
    }

    /// All numbers but these.
    pub fn others(&self, but: &[usize]) -> Vec<usize> {
        self.everybody().into_iter().filter(|number| !but.contains(number)).collect()
    }

    fn node(&mut self, number: usize) -> &mut Node {
        &mut self.nodes[number - 1]
    }

    /// The data folder of a node.
    pub fn data(&self, number: usize) -> &Path {
        &self.nodes[number - 1].data
    }

    /// What a node has logged.
    pub fn log(&self, number: usize) -> String {
        std::fs::read_to_string(self.log_path(number)).unwrap_or_default()
    }

    fn log_path(&self, number: usize) -> PathBuf {
        self.folder.path().join(format!("log-{number}"))
    }

    /// Starts a node that does not run.
    pub fn start_node(&mut self, number: usize) {
        let log = || {
            let mut options = File::options();
            options.create(true).append(true).open(self.log_path(number)).expect("the folder is ours")
        };
        let seeds = self.nodes.iter().map(|node| format!("{}:{BUS_PORT}", address(node.at)));
        let count = self.nodes.len();
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--net={}", self.lab.namespace_path(number)))
            .arg(Server::program())
            .args(["--port", &PORT.to_string(), "--protected-mode", "no", "--dir"])
            .arg(self.data(number))
            .args(["--bootstrap-expect", &count.to_string(), "--replicas", &(count - 1).to_string()])
            .args(["--cluster-secret", "of the tests", "--cluster-seeds"])
            .args(seeds)
            .args(&self.flags)
            .env_clear()
            .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
            .env("RUST_BACKTRACE", "1")
            .stdin(Stdio::null())
            .stdout(log())
            .stderr(log());
        let process = command.spawn().expect("nsenter is part of util-linux");
        let before = self.node(number).process.replace(process);
        assert!(before.is_none(), "node {number} still runs");
    }

    /// `kill -9`.
    pub fn kill(&mut self, number: usize) {
        let mut process = self.node(number).process.take().expect("it runs");
        process.kill().expect("the process is ours");
        process.wait().expect("the process is ours");
    }

    /// Sends a node a signal.
    pub fn signal(&self, number: usize, signal: Signal) {
        let process = self.nodes[number - 1].process.as_ref().expect("it runs");
        rustix::process::kill_process(Pid::from_child(process), signal).expect("the process is ours");
    }

    /// Waits until no thread of a node that was sent SIGSTOP runs any more: the signal reaches them one by one.
    pub fn await_stopped(&self, number: usize) {
        let id = self.nodes[number - 1].process.as_ref().expect("it runs").id();
        let is_stopped = |task: std::fs::DirEntry| {
            let status = std::fs::read_to_string(task.path().join("stat")).unwrap_or_default();
            // The state stands behind the name, which may have any letters.
            status.rsplit(") ").next().is_some_and(|rest| rest.starts_with('T'))
        };
        wait_until("all threads stand still", WITHIN, || {
            let tasks = std::fs::read_dir(format!("/proc/{id}/task")).expect("the process is there");
            tasks.map_while(Result::ok).all(is_stopped)
        });
    }

    /// SIGTERM, and its end.
    pub fn terminate(&mut self, number: usize) -> ExitStatus {
        self.signal(number, Signal::TERM);
        let mut process = self.node(number).process.take().expect("it runs");
        let end = Instant::now() + STOP_WITHIN;
        loop {
            if let Some(status) = process.try_wait().expect("the process is ours") {
                return status;
            }
            if Instant::now() > end {
                process.kill().expect("the process is ours");
                process.wait().expect("the process is ours");
                panic!("node {number} does not end by SIGTERM");
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Gives a node that does not run another address, for it and for all seeds from now on.
    pub fn move_node(&mut self, number: usize, at: usize) {
        assert!(self.node(number).process.is_none(), "node {number} runs");
        self.lab.move_to(number, at);
        self.node(number).at = at;
    }

    /// Empties the data folder of a node that does not run.
    pub fn empty(&mut self, number: usize) {
        assert!(self.node(number).process.is_none(), "node {number} runs");
        std::fs::remove_dir_all(self.data(number)).expect("the folder is ours");
        std::fs::create_dir_all(self.data(number)).expect("the folder is ours");
    }

    /// Where clients find a node.
    pub fn socket_address(&self, number: usize) -> SocketAddr {
        format!("{}:{PORT}", address(self.nodes[number - 1].at)).parse().expect("it is an address")
    }

    /// A connection to a node from the clients' host.
    pub fn connect(&self, number: usize, patience: Duration) -> std::io::Result<Client> {
        Client::over(self.lab.connector().connect(self.socket_address(number))?, patience)
    }

    /// A field of INFO; none if the node does not answer.
    pub fn info(&self, number: usize, section: &str, field: &str) -> Option<String> {
        let mut client = self.connect(number, Duration::from_secs(2)).ok()?;
        let text = client.try_ask(&["INFO", section]).ok()?;
        let crate::support::Value::Bulk(bytes) = text else { return None };
        let text = String::from_utf8_lossy(&bytes).into_owned();
        text.lines().find_map(|line| Some(line.strip_prefix(field)?.strip_prefix(':')?.trim().to_owned()))
    }

    /// Which of these say that they are primary.
    pub fn primaries(&self, among: &[usize]) -> Vec<usize> {
        let is_primary =
            |number: &usize| self.info(*number, "replication", "role").as_deref() == Some("master");
        among.iter().copied().filter(is_primary).collect()
    }

    /// Waits until one of these, and only one, says that it is primary; which.
    pub fn await_primary(&self, among: &[usize]) -> usize {
        let mut found = Vec::new();
        wait_until(&format!("one primary among {among:?}"), WITHIN, || {
            found = self.primaries(among);
            found.len() == 1
        });
        found[0]
    }

    /// Waits until one node is primary and all others follow it, in step, and may take its place; which.
    pub fn await_whole(&self) -> usize {
        let mut primary = 0;
        wait_until("one primary, and all others in step", WITHIN, || {
            let primaries = self.primaries(&self.everybody());
            let [only] = primaries[..] else { return false };
            primary = only;
            let followers = self.others(&[only]);
            let connected = self.info(only, "replication", "connected_slaves");
            connected == Some(followers.len().to_string())
                && self.info(only, "cluster", "larder_cluster_learners").as_deref() == Some("0")
                && followers.iter().all(|number| {
                    self.info(*number, "replication", "master_link_status").as_deref() == Some("up")
                })
        });
        primary
    }

    /// Waits until every node is primary of something, and all others follow it, in step, and may take its place.
    pub fn await_spread(&self) {
        let others = self.nodes.len() - 1;
        let is_there = |number: usize| {
            let cluster = |field: &str| self.info(number, "cluster", field);
            let none = Some("0");
            let is_in_step = |other: usize| {
                let line = self.info(number, "replication", &format!("slave{other}"));
                line.is_some_and(|line| line.contains("state=online"))
            };
            cluster("larder_cluster_without_primary").as_deref() == none
                && cluster("larder_cluster_learners").as_deref() == none
                && cluster("larder_cluster_primary_of").is_some_and(|count| count != "0")
                && (0..others).all(is_in_step)
        };
        wait_until("every node is primary, and has the others in step", WITHIN * 2, || {
            self.everybody().into_iter().all(is_there)
        });
    }

    /// Waits until a write through this node is accepted.
    pub fn await_writes(&self, through: usize) {
        wait_until(&format!("a write through node {through}"), WITHIN, || {
            let reply = self
                .connect(through, Duration::from_secs(15))
                .and_then(|mut client| client.try_ask(&["SET", "probe", "x"]));
            reply.is_ok_and(|reply| reply.to_string() == "OK")
        });
    }

    /// Every file that tells of lost transactions, of all nodes, as `larder lost show` prints it.
    pub fn lost(&self) -> String {
        let mut shown = String::new();
        for number in self.everybody() {
            let Ok(files) = std::fs::read_dir(self.data(number).join("lost")) else { continue };
            let files = files.map(|file| file.expect("the folder can be listed").path());
            for file in files.filter(|file| file.extension().is_some_and(|extension| extension == "jsonl")) {
                let output = Command::new(Server::program()).args(["lost", "show"]).arg(&file).output();
                let output = output.expect("it is the program that is tested");
                assert!(
                    output.status.success(),
                    "{}: {}",
                    file.display(),
                    String::from_utf8_lossy(&output.stderr)
                );
                shown += &String::from_utf8_lossy(&output.stdout);
            }
        }
        shown
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        for node in &mut self.nodes {
            if let Some(process) = &mut node.process {
                // It may have ended already; then there is nothing to do.
                let _ = process.kill();
                let _ = process.wait();
            }
        }
        for folder in &self.mounts {
            // The folder above is removed next; what is left mounted would stay.
            let _ = Command::new("umount").arg(folder).status();
        }
        if std::thread::panicking() {
            for number in self.everybody() {
                eprintln!("--- log of node {number}:\n{}", self.log(number));
            }
        }
    }
}
