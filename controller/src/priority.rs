//! How much this process may be in the way of others, and how much it has worked.
//!
//! A priority belongs to a thread and goes over to the threads that it starts, so a worker lowers its own before it has any.
//! `unsafe` is around three calls of the system that touch no memory but their own.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How a fine-tune shares the processor.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Priority {
    /// Only when nobody else wants the processor, and away at once when somebody does.
    #[default]
    Idle,
    /// As `nice -n 19`.
    Low,
    /// Like everything else.
    Normal,
}

/// Lowers the priority of this thread and of all that it will start. What the system does not offer is left out: a process
/// may always lower itself, so there is nothing that could be refused.
pub fn lower(priority: Priority) {
    #[cfg(unix)]
    if priority != Priority::Normal {
        // SAFETY: takes three numbers; 0 is the calling thread (on Linux) or process.
        unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, 19) };
    }
    #[cfg(target_os = "linux")]
    if priority != Priority::Normal {
        let policy = if priority == Priority::Idle { libc::SCHED_IDLE } else { libc::SCHED_BATCH };
        let parameter = libc::sched_param { sched_priority: 0 };
        // SAFETY: the parameter outlives the call, which only reads it; 0 is the calling thread.
        unsafe { libc::sched_setscheduler(0, policy, &parameter) };
    }
    #[cfg(not(unix))]
    let _ = priority;
}

/// Processor time of all threads of this process so far; zero where the system does not tell.
pub fn cpu_time() -> Duration {
    #[cfg(unix)]
    {
        let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
        // SAFETY: the pointer is to one `rusage`, which the call fills in; all zero is one as well.
        let usage = unsafe {
            libc::getrusage(libc::RUSAGE_SELF, usage.as_mut_ptr());
            usage.assume_init()
        };
        let time = |time: libc::timeval| {
            Duration::from_secs(u64::try_from(time.tv_sec).unwrap_or(0))
                + Duration::from_micros(u64::try_from(time.tv_usec).unwrap_or(0))
        };
        time(usage.ru_utime) + time(usage.ru_stime)
    }
    #[cfg(not(unix))]
    Duration::ZERO
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    /// The last fields of `/proc/thread-self/stat`: nice (19th) and policy (41st).
    fn nice_and_policy() -> (i64, i64) {
        let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
        let fields: Vec<i64> =
            stat.rsplit_once(") ").unwrap().1.split(' ').map(|field| field.trim().parse().unwrap_or(-1)).collect();
        (fields[16], fields[38])
    }

    #[test]
    fn a_lowered_thread_hands_its_priority_on_and_others_keep_theirs() {
        let before = nice_and_policy();
        let of = |priority| {
            let lowered = std::thread::spawn(move || {
                lower(priority);
                std::thread::spawn(nice_and_policy).join().unwrap()
            });
            lowered.join().unwrap()
        };
        assert_eq!(of(Priority::Idle), (19, i64::from(libc::SCHED_IDLE)));
        assert_eq!(of(Priority::Low), (19, i64::from(libc::SCHED_BATCH)));
        assert_eq!(of(Priority::Normal), before);
        assert_eq!(nice_and_policy(), before);
    }

    #[test]
    fn work_takes_time() {
        let before = cpu_time();
        let mut sum = 0u64;
        while cpu_time() == before {
            sum = sum.wrapping_mul(31).wrapping_add(1);
        }
        assert!(cpu_time() > before, "{sum}");
    }
}
