//! Which instance serves which request.
//!
//! Calls wait in the queue of the instance they were given to, also while it is busy, so that calls which come
//! together run together in few instances: the guest then shares work between them, such as one commit for all.
//! There is one instance for each core before any gets a second call, and further ones only where none has room.
//! An instance has at most as many calls as it may run at once. What a failed one had not begun goes to another.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Duration;

use futures::channel::oneshot;
use http::{Request, Response};
use wasmtime_wasi_http::WasiBody;

use crate::instances::{INSTANCES_MAX, Instances, Placement};
use crate::worker::Worker;

/// Calls that may wait until an instance has room.
const WAITING_MAX: usize = 1024;
/// How long a call waits until an instance has room.
const WAITING_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a call has no reply.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DispatchError {
    /// Every instance is full. Worth a retry later.
    #[error("all instances are busy")]
    Full,
    /// The call's instance trapped or did not start, which its worker has logged. A retry may do what it did before.
    #[error("the instance failed")]
    Instance,
    /// The guest answered with an error instead of a reply. A retry may do what it did before.
    #[error("{0:?}")]
    Guest(wasmtime::Error),
}

pub(crate) type ReplySender = oneshot::Sender<wasmtime::Result<Response<WasiBody>>>;

/// A request on its way to an instance.
pub(crate) struct Call {
    pub(crate) request: Request<WasiBody>,
    pub(crate) reply: ReplySender,
    pub(crate) placement: Placement,
}

/// Gives calls to instances; clones are handles of the same one.
#[derive(Clone)]
pub(crate) struct Dispatcher(Arc<Shared>);

struct Shared {
    instances: Instances,
    /// How many instances can work at once: one for each core.
    spread: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// All instances, the oldest first.
    slots: BTreeMap<u64, Slot>,
    last_id: u64,
    /// Calls that found no room.
    waiting: VecDeque<Call>,
}

/// What the dispatcher knows of one instance.
#[derive(Default)]
struct Slot {
    /// Given to the instance and not begun.
    queue: VecDeque<Call>,
    /// Given to the instance and not answered, the queue included.
    in_flight: usize,
    /// Given to the instance in all its life.
    total: usize,
    /// Wakes the instance when something is put into the queue.
    waker: Option<Waker>,
}

/// What an instance finds when it looks for calls.
pub(crate) struct Taken {
    pub(crate) calls: VecDeque<Call>,
    /// No call will follow.
    pub(crate) is_last: bool,
}

impl Dispatcher {
    pub(crate) fn new(instances: Instances) -> Self {
        let spread = std::thread::available_parallelism().map_or(1, usize::from);
        Self(Arc::new(Shared { instances, spread, state: Mutex::default() }))
    }

    /// Has an instance serve the request.
    pub(crate) async fn call(
        &self,
        request: Request<WasiBody>,
        placement: &Placement,
    ) -> Result<Response<WasiBody>, DispatchError> {
        let (sender, mut reply) = oneshot::channel();
        let call = Call { request, reply: sender, placement: Arc::clone(placement) };
        let is_waiting = {
            let mut state = self.lock();
            if state.waiting.len() >= WAITING_MAX {
                return Err(DispatchError::Full);
            }
            state.waiting.push_back(call);
            self.place(state)
        };
        let reply = if is_waiting {
            match tokio::time::timeout(WAITING_TIMEOUT, &mut reply).await {
                Ok(reply) => reply,
                Err(_) if self.withdraw(placement) => return Err(DispatchError::Full),
                Err(_) => reply.await,
            }
        } else {
            reply.await
        };
        reply.map_err(|_| DispatchError::Instance)?.map_err(DispatchError::Guest)
    }

    /// Takes a call back that no instance had room for. False where one had.
    fn withdraw(&self, placement: &Placement) -> bool {
        let mut state = self.lock();
        let position = state.waiting.iter().position(|call| Arc::ptr_eq(&call.placement, placement));
        position.is_some_and(|position| state.waiting.remove(position).is_some())
    }

    /// Gives waiting calls to instances while there is room. True where calls are left.
    fn place(&self, mut state: MutexGuard<'_, State>) -> bool {
        let mut started = Vec::new();
        let mut wakers = Vec::new();
        while let Some(call) = state.waiting.pop_front() {
            if call.reply.is_canceled() {
                continue;
            }
            let Some(slot) = state.slot_with_room(&self.0, &mut started) else {
                state.waiting.push_front(call);
                break;
            };
            slot.queue.push_back(call);
            slot.in_flight = slot.in_flight.saturating_add(1);
            slot.total = slot.total.saturating_add(1);
            wakers.extend(slot.waker.take());
        }
        let is_left = !state.waiting.is_empty();
        // Neither a waker nor a task may find the lock held.
        drop(state);
        for waker in wakers {
            waker.wake();
        }
        for id in started {
            tokio::spawn(Worker::new(self.clone(), id).run());
        }
        is_left
    }

    /// Takes what was given to the instance. With nothing to take, `waker` is woken when there is.
    pub(crate) fn take(&self, id: u64, waker: &Waker) -> Taken {
        let mut state = self.lock();
        let Some(slot) = state.slots.get_mut(&id) else {
            return Taken { calls: VecDeque::new(), is_last: true };
        };
        let calls = std::mem::take(&mut slot.queue);
        let is_last = slot.total >= self.0.instances.reuse().total;
        if !is_last && !slot.waker.as_ref().is_some_and(|known| known.will_wake(waker)) {
            slot.waker = Some(waker.clone());
        }
        Taken { calls, is_last }
    }

    /// A call of the instance was answered or given up.
    pub(crate) fn release(&self, id: u64) {
        let mut state = self.lock();
        if let Some(slot) = state.slots.get_mut(&id) {
            slot.in_flight = slot.in_flight.saturating_sub(1);
        }
        if !state.waiting.is_empty() {
            self.place(state);
        }
    }

    /// The instance takes no more calls. Those it had not begun go to others, before all that wait.
    pub(crate) fn leave(&self, id: u64) {
        let mut state = self.lock();
        if let Some(slot) = state.slots.remove(&id) {
            for call in slot.queue.into_iter().rev() {
                state.waiting.push_front(call);
            }
        }
        if !state.waiting.is_empty() {
            self.place(state);
        }
    }

    /// The instance is gone with the calls it had not begun, which fail.
    pub(crate) fn discard(&self, id: u64) {
        let slot = self.lock().slots.remove(&id);
        drop(slot);
    }

    pub(crate) fn instances(&self) -> &Instances {
        &self.0.instances
    }

    /// Every change below the lock is whole, so a poisoned lock is taken all the same.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The instance for the next call, which is noted in `started` where it is new. An idle one is taken before
    /// all, and while fewer are open than may work at once, none is doubled up. After that the least loaded of the
    /// oldest has it, so that those which a lighter load does not need become idle and end.
    fn slot_with_room(&mut self, shared: &Shared, started: &mut Vec<u64>) -> Option<&mut Slot> {
        let (reuse, spread) = (shared.instances.reuse(), shared.spread);
        let open = || self.slots.iter().filter(|(_, slot)| slot.total < reuse.total);
        let has_room = open().filter(|(_, slot)| slot.in_flight < reuse.concurrent);
        let least = has_room.take(spread).min_by_key(|(_, slot)| slot.in_flight);
        let may_start = self.slots.len() < INSTANCES_MAX as usize;
        let id = match least {
            Some((id, slot)) if slot.in_flight == 0 || !may_start || open().nth(spread.saturating_sub(1)).is_some() => *id,
            _ if may_start => {
                self.last_id = self.last_id.saturating_add(1);
                started.push(self.last_id);
                self.slots.insert(self.last_id, Slot::default());
                self.last_id
            }
            _ => return None,
        };
        self.slots.get_mut(&id)
    }
}
