//! Leases that were granted and have not been answered yet. A worker that hangs up in between would
//! never know of them, and their tasks would lie still until they run out.

/// Gives leases back when dropped, unless they were delivered.
pub(super) struct Undelivered<L, F: FnOnce(Vec<L>)> {
    pending: Option<(Vec<L>, F)>,
}

impl<L, F: FnOnce(Vec<L>)> Undelivered<L, F> {
    /// `give_back` must not block: it is called wherever the call happens to be dropped.
    pub(super) fn new(leases: Vec<L>, give_back: F) -> Self {
        Self {
            pending: Some((leases, give_back)),
        }
    }

    /// The leases that would be given back.
    pub(super) fn leases(&self) -> &[L] {
        self.pending.as_ref().map_or(&[], |(leases, _)| leases)
    }

    /// The answer is on its way. Should the connection break now, the leases run out.
    pub(super) fn delivered(mut self) {
        self.pending = None;
    }
}

impl<L, F: FnOnce(Vec<L>)> Drop for Undelivered<L, F> {
    fn drop(&mut self) {
        if let Some((leases, give_back)) = self.pending.take()
            && !leases.is_empty()
        {
            give_back(leases);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    #[test]
    fn what_is_dropped_is_given_back_and_what_is_delivered_is_not() {
        let back = RefCell::new(Vec::new());
        let give_back = |leases: Vec<u32>| back.borrow_mut().extend(leases);
        drop(Undelivered::new(vec![1, 2], give_back));
        Undelivered::new(vec![3], give_back).delivered();
        drop(Undelivered::new(Vec::new(), |_: Vec<u32>| {
            panic!("nothing to give back")
        }));
        assert_eq!(*back.borrow(), [1, 2]);
    }
}
