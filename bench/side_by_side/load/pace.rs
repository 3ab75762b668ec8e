//! When a request is due.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;

/// The schedule of all lanes: request `n` is due `n` gaps after the start, on lane `n` modulo their
/// number. A lane that is late sends as soon as it can; the latency counts from the due time, so
/// that a server which stalls is charged for all that it kept waiting.
pub(super) struct Pace {
    /// `None`: a closed loop.
    gap: Option<Duration>,
    /// A permit for each request of a lane that is due.
    lanes: Vec<Arc<Semaphore>>,
    began: Arc<OnceLock<Instant>>,
    is_over: Arc<AtomicBool>,
}

/// One lane's part of it.
pub(super) struct Lane {
    began: Arc<OnceLock<Instant>>,
    due: Arc<Semaphore>,
    /// From the start to the lane's next request, and from that to the one after it.
    next: Duration,
    gap: Option<Duration>,
}

impl Pace {
    pub(super) fn new(rate: Option<f64>, lanes: usize) -> Pace {
        Pace {
            gap: rate.map(|rate| Duration::from_secs_f64(1.0 / rate)),
            lanes: (0..lanes).map(|_| Arc::new(Semaphore::new(0))).collect(),
            began: Arc::default(),
            is_over: Arc::default(),
        }
    }

    pub(super) fn lane(&self, number: usize) -> Lane {
        Lane {
            began: Arc::clone(&self.began),
            due: Arc::clone(&self.lanes[number]),
            next: self.gap.unwrap_or_default() * number as u32,
            gap: self.gap.map(|gap| gap * self.lanes.len() as u32),
        }
    }

    /// Lets requests become due from `began` on. A thread does that: Tokio's timers are exact to a
    /// millisecond, which is longer than most answers take.
    pub(super) fn start(&self, began: Instant) {
        let began = *self.began.get_or_init(|| began);
        let Some(gap) = self.gap else { return };
        let (lanes, is_over) = (self.lanes.clone(), Arc::clone(&self.is_over));
        thread::spawn(move || {
            wake_on_time();
            for n in 0.. {
                thread::sleep((began + gap * n).saturating_duration_since(Instant::now()));
                if is_over.load(Ordering::Relaxed) {
                    return;
                }
                lanes[n as usize % lanes.len()].add_permits(1);
            }
        });
    }
}

impl Drop for Pace {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
    }
}

impl Lane {
    /// Waits until this lane's next request is due, and returns when that was.
    pub(super) async fn next(&mut self) -> Instant {
        let Some(gap) = self.gap else {
            return Instant::now();
        };
        self.due.acquire().await.unwrap().forget();
        // Permits come after the start.
        let due = *self.began.get().unwrap() + self.next;
        self.next += gap;
        due
    }
}

/// Linux may be fifty microseconds late for a thread that sleeps, unless it is told otherwise
/// (prctl(2), `PR_SET_TIMERSLACK`). Where that is not allowed, every contender is charged for it
/// alike.
fn wake_on_time() {
    let Ok(thread) = fs::read_link("/proc/thread-self") else {
        return;
    };
    if let Some(id) = thread.file_name() {
        let _ = fs::write(Path::new("/proc").join(id).join("timerslack_ns"), "1");
    }
}
