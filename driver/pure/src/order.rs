//! The order of a sequence of steps, and mistakes in it.

/// What somebody who got an order wrong did differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mistake<S> {
    /// The step is left out.
    Forgotten(S),
    /// The first step is done right before the second, wherever it should have been.
    Before(S, S),
    /// The first step is done right after the second.
    After(S, S),
    /// The step is done in its place, and not as it should be.
    Wrongly(S),
}

/// A step of an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Planned<S> {
    /// What to do.
    pub step: S,
    /// Not as it should be done.
    pub wrongly: bool,
}

/// An order of at most `N` steps; what is beyond is not in it.
#[derive(Debug)]
pub struct Order<S, const N: usize> {
    /// The steps, and behind the last of them nothing.
    steps: [Option<Planned<S>>; N],
}

impl<S: Copy + PartialEq, const N: usize> Order<S, N> {
    /// The right order with mistakes in it, made one after the other. A mistake about a step that is not in it changes nothing.
    #[must_use]
    pub fn with(right: &[S], mistakes: &[Mistake<S>]) -> Self {
        let mut order = Self { steps: [None; N] };
        for (place, step) in order.steps.iter_mut().zip(right) {
            *place = Some(Planned { step: *step, wrongly: false });
        }
        for mistake in mistakes {
            order.make(*mistake);
        }
        order
    }

    /// The steps as they are to be done.
    pub fn steps(&self) -> impl Iterator<Item = Planned<S>> {
        self.steps.iter().copied().flatten()
    }

    fn make(&mut self, mistake: Mistake<S>) {
        match mistake {
            Mistake::Forgotten(step) => {
                self.take(step);
            }
            Mistake::Before(step, other) => self.shift(step, other, 0),
            Mistake::After(step, other) => self.shift(step, other, 1),
            Mistake::Wrongly(step) => {
                for planned in self.steps.iter_mut().flatten().filter(|planned| planned.step == step) {
                    planned.wrongly = true;
                }
            }
        }
    }

    fn find(&self, step: S) -> Option<usize> {
        self.steps.iter().position(|planned| planned.is_some_and(|planned| planned.step == step))
    }

    /// Takes a step out; those behind it move up.
    fn take(&mut self, step: S) -> Option<Planned<S>> {
        let at = self.find(step)?;
        let rest = self.steps.get_mut(at..)?;
        let taken = rest.first_mut()?.take();
        rest.rotate_left(1);
        taken
    }

    /// Puts a step that was taken out in again; those behind it move back.
    fn insert(&mut self, at: usize, planned: Planned<S>) {
        if let Some(rest) = self.steps.get_mut(at..) {
            rest.rotate_right(1);
            if let Some(place) = rest.first_mut() {
                *place = Some(planned);
            }
        }
    }

    fn shift(&mut self, step: S, other: S, behind: usize) {
        if step != other
            && self.find(other).is_some()
            && let Some(planned) = self.take(step)
            && let Some(at) = self.find(other)
        {
            self.insert(at + behind, planned);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(mistakes: &[Mistake<char>]) -> String {
        let order = Order::<_, 5>::with(&['a', 'b', 'c', 'd', 'e'], mistakes);
        let name = |planned: Planned<char>| {
            if planned.wrongly { planned.step.to_ascii_uppercase() } else { planned.step }
        };
        order.steps().map(name).collect()
    }

    extern crate alloc;
    use alloc::string::String;

    #[test]
    fn each_mistake_changes_what_it_is_about() {
        assert_eq!(order(&[]), "abcde");
        assert_eq!(order(&[Mistake::Forgotten('b')]), "acde");
        assert_eq!(order(&[Mistake::Before('d', 'a')]), "dabce");
        assert_eq!(order(&[Mistake::Before('a', 'd')]), "bcade");
        assert_eq!(order(&[Mistake::After('a', 'e')]), "bcdea");
        assert_eq!(order(&[Mistake::After('e', 'a')]), "aebcd");
        assert_eq!(order(&[Mistake::Wrongly('c')]), "abCde");
    }

    #[test]
    fn mistakes_add_up_in_their_order() {
        assert_eq!(
            order(&[Mistake::After('a', 'e'), Mistake::After('b', 'a'), Mistake::Wrongly('a')]),
            "cdeAb"
        );
        assert_eq!(
            order(&[Mistake::Forgotten('a'), Mistake::Forgotten('b'), Mistake::Before('c', 'e')]),
            "dce"
        );
    }

    #[test]
    fn what_is_not_there_changes_nothing() {
        let mistakes = [
            Mistake::Forgotten('x'),
            Mistake::Before('x', 'a'),
            Mistake::After('a', 'x'),
            Mistake::After('a', 'a'),
        ];
        assert_eq!(order(&mistakes), "abcde");
    }
}
