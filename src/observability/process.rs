//! What the system says of this process: memory, processor time, the machine. Read from `/proc`, so only as fresh and as
//! fine as the kernel keeps it; where there is no `/proc` the figures are zero.

use crate::base::clock;
use rustix::param::{clock_ticks_per_second, page_size};
use rustix::process::{Resource, getrlimit};
use std::fs;
use std::path::Path;
use std::time::Instant;

/// Which process this is.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Forty random hexadecimal digits, others at every start.
    pub run_id: String,
    /// When it started, by the monotonic clock.
    pub started: Instant,
    /// When it started, seconds since 1970.
    pub started_s: i64,
    /// Path of its program.
    pub executable: String,
}

impl Identity {
    /// Of this process, as of now.
    pub fn of_this_process() -> Identity {
        let executable = std::env::current_exe().unwrap_or_default();
        Identity {
            run_id: random_digits(),
            started: Instant::now(),
            started_s: clock::unix_ms() / 1000,
            executable: executable.to_string_lossy().into_owned(),
        }
    }
}

fn random_digits() -> String {
    let bytes: [u8; 20] = rand::random();
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Memory of this process, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// In memory now, pages of files included.
    pub resident: u64,
    /// Pages of mapped files (the trees) among them: the kernel takes them back when it needs them.
    pub mapped: u64,
}

impl Memory {
    /// As of now.
    pub fn now() -> Memory {
        fs::read_to_string("/proc/self/statm").map_or(Memory::default(), |text| Memory::parse(&text))
    }

    /// Fields of statm: size, resident, resident pages of files, …, in pages.
    fn parse(statm: &str) -> Memory {
        let mut fields =
            statm.split_ascii_whitespace().skip(1).map(|field| field.parse::<u64>().unwrap_or(0));
        let mut bytes = || fields.next().unwrap_or(0) * page_size() as u64;
        Memory { resident: bytes(), mapped: bytes() }
    }

    /// What is ours alone: heap and stacks.
    pub fn own(self) -> u64 {
        self.resident.saturating_sub(self.mapped)
    }
}

/// Processor time in seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct CpuTime {
    /// In the kernel.
    pub system: f64,
    /// Outside of it.
    pub user: f64,
    /// Of ended children, in the kernel.
    pub system_children: f64,
    /// Of ended children, outside of it.
    pub user_children: f64,
}

impl CpuTime {
    /// Of all threads of this process.
    pub fn of_process() -> CpuTime {
        CpuTime::read("/proc/self/stat")
    }

    /// Of the thread the process started with.
    pub fn of_main_thread() -> CpuTime {
        CpuTime::read(&format!("/proc/self/task/{}/stat", std::process::id()))
    }

    fn read(path: &str) -> CpuTime {
        fs::read_to_string(path).map_or(CpuTime::default(), |text| CpuTime::parse(&text))
    }

    /// Fields 14 to 17 of stat; the name, field 2, is in parentheses and may contain anything.
    fn parse(stat: &str) -> CpuTime {
        let Some((_, behind_name)) = stat.rsplit_once(')') else { return CpuTime::default() };
        let ticks =
            behind_name.split_ascii_whitespace().skip(11).map(|field| field.parse::<f64>().unwrap_or(0.0));
        let mut seconds = ticks.map(|ticks| ticks / clock_ticks_per_second() as f64);
        let mut next = || seconds.next().unwrap_or(0.0);
        let (user, system) = (next(), next());
        CpuTime { system, user, user_children: next(), system_children: next() }
    }
}

/// File descriptors of this process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Descriptors {
    /// Open now.
    pub open: u64,
    /// How many may be open; none if there is no limit.
    pub limit: Option<u64>,
}

impl Descriptors {
    /// As of now.
    pub fn now() -> Descriptors {
        // One of them is that of the folder which is read.
        let open = fs::read_dir("/proc/self/fd").map_or(0, |entries| entries.count().saturating_sub(1));
        Descriptors { open: open as u64, limit: getrlimit(Resource::Nofile).current }
    }
}

/// Threads of this process.
pub fn threads() -> usize {
    fs::read_dir("/proc/self/task").map_or(0, Iterator::count)
}

/// Memory of the machine, in bytes.
pub fn machine_memory() -> u64 {
    let info = rustix::system::sysinfo();
    info.totalram * u64::from(info.mem_unit)
}

/// Memory that this process may use, in bytes: the machine's, or less if its control group (a container) has less.
pub fn memory_limit() -> u64 {
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let limits = groups.lines().filter_map(group_file).flat_map(|(root, path, file)| {
        // The groups above bind as well. Inside a container the path may be the host's, and what is mounted is our own group.
        let paths: Vec<String> =
            path.ancestors().map(|path| format!("{root}{}/{file}", path.display())).collect();
        paths.into_iter().filter_map(|path| fs::read_to_string(path).ok()?.trim().parse::<u64>().ok())
    });
    limits.fold(machine_memory(), u64::min)
}

/// Where the memory limit of a group stands, from its line in `/proc/self/cgroup`: `number:controllers:path`, where version
/// two of control groups names no controllers.
fn group_file(line: &str) -> Option<(&'static str, &Path, &'static str)> {
    let mut fields = line.splitn(3, ':').skip(1);
    let (controllers, path) = (fields.next()?, fields.next()?);
    let path = Path::new(path);
    if controllers.is_empty() {
        Some(("/sys/fs/cgroup", path, "memory.max"))
    } else if controllers.split(',').any(|name| name == "memory") {
        Some(("/sys/fs/cgroup/memory", path, "memory.limit_in_bytes"))
    } else {
        None
    }
}

/// Name, release and architecture of the system, as INFO shows them.
pub fn system_name() -> String {
    let name = rustix::system::uname();
    let [system, release, machine] = [name.sysname(), name.release(), name.machine()];
    format!("{} {} {}", system.to_string_lossy(), release.to_string_lossy(), machine.to_string_lossy())
}

/// Bytes with a unit, as INFO shows them.
pub fn human_bytes(bytes: u64) -> String {
    const UNITS: [(u32, &str); 5] = [(50, "P"), (40, "T"), (30, "G"), (20, "M"), (10, "K")];
    let unit = UNITS.into_iter().find(|(bits, _)| bytes >> bits > 0);
    unit.map_or_else(
        || format!("{bytes}B"),
        |(bits, name)| format!("{:.2}{name}", bytes as f64 / (1_u64 << bits) as f64),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_of_files_is_told_apart() {
        let page = page_size() as u64;
        let memory = Memory::parse("3000 200 50 10 0 300 0");
        assert_eq!((memory.resident, memory.mapped, memory.own()), (200 * page, 50 * page, 150 * page));
        assert!(Memory::now().own() > 0);
    }

    #[test]
    fn the_limit_of_a_group_is_found_in_both_versions() {
        let found =
            |line| group_file(line).map(|(root, path, file)| format!("{root}{}/{file}", path.display()));
        assert_eq!(found("0::/a/b").as_deref(), Some("/sys/fs/cgroup/a/b/memory.max"));
        assert_eq!(
            found("9:hugetlb,memory:/docker/c").as_deref(),
            Some("/sys/fs/cgroup/memory/docker/c/memory.limit_in_bytes")
        );
        assert_eq!((found("3:cpu:/a"), found("")), (None, None));
        assert!(memory_limit() > 0 && memory_limit() <= machine_memory());
    }

    #[test]
    fn processor_time_is_read_behind_any_name() {
        let ticks = clock_ticks_per_second() as f64;
        let time = CpuTime::parse("7 (a) b) S 1 7 7 0 -1 0 0 0 0 0 150 50 25 75 20 0");
        assert_eq!((time.user * ticks, time.system * ticks), (150.0, 50.0));
        assert_eq!((time.user_children * ticks, time.system_children * ticks), (25.0, 75.0));
    }

    #[test]
    fn bytes_are_shown_as_redis_shows_them() {
        for (bytes, text) in [(0, "0B"), (1023, "1023B"), (916_456, "894.98K"), (25_276_514_304, "23.54G")] {
            assert_eq!(human_bytes(bytes), text);
        }
    }
}
