//! The resources of a call that names several, parsed once at the door.

use crate::error::Error;
use crate::names::Resource;
use crate::pg::{RawArray, RawText};

/// Elements of an array that are looked at.
const MAX_ELEMENTS: usize = 10_000;

/// Before anything is copied, since an array can be as large as the caller likes.
fn check_count(argument: &'static str, given: usize) -> Result<(), Error> {
    match given > MAX_ELEMENTS {
        true => Err(Error::TooManyElements {
            argument,
            given,
            max: MAX_ELEMENTS,
        }),
        false => Ok(()),
    }
}

/// The resources that a call names, as it names them.
pub fn parse_resources(resources: Option<RawArray<RawText>>) -> Result<Vec<Resource>, Error> {
    let named = resources.ok_or(Error::Null {
        argument: "resources",
    })?;
    check_count("resources", named.len())?;
    named.elements().into_iter().map(Resource::parse).collect()
}

/// A list of resources: each once, in byte order and in the order asked.
#[derive(Debug)]
pub struct Cart {
    sorted: Vec<Resource>,
    /// Positions in `sorted`, of each resource as it was named.
    named: Vec<usize>,
    /// The same, of each where it was named first.
    asked: Vec<usize>,
    /// The tokens given for each resource of `sorted`; none where the call has no tokens.
    tokens: Vec<Vec<i64>>,
}

impl Cart {
    pub const MAX: usize = 1000;

    /// The call's arrays; no tokens means that any token will do.
    pub fn parse(
        resources: Option<RawArray<RawText>>,
        tokens: Option<RawArray<i64>>,
    ) -> Result<Self, Error> {
        let named = parse_resources(resources)?;
        let tokens = tokens.map(|tokens| {
            check_count("tokens", tokens.len())?;
            let token = |token: Option<i64>| token.ok_or(Error::Null { argument: "token" });
            tokens
                .elements()
                .into_iter()
                .map(token)
                .collect::<Result<Vec<_>, _>>()
        });
        Self::of(named, tokens.transpose()?)
    }

    /// The resources as named, and as many tokens where there are any.
    fn of(named: Vec<Resource>, tokens: Option<Vec<i64>>) -> Result<Self, Error> {
        if let Some(tokens) = &tokens
            && tokens.len() != named.len()
        {
            return Err(Error::ElementCount {
                argument: "tokens",
                given: tokens.len(),
                resources: named.len(),
            });
        }
        let mut named: Vec<_> = named.into_iter().enumerate().collect();
        // Of equal ones the first that was named stays first.
        named.sort_by(|(_, a), (_, b)| a.cmp(b));
        let mut sorted: Vec<Resource> = Vec::with_capacity(named.len());
        let mut positions = vec![0; named.len()];
        let mut firsts = Vec::with_capacity(named.len());
        for (n, resource) in named {
            if sorted.last() != Some(&resource) {
                firsts.push((n, sorted.len()));
                sorted.push(resource);
            }
            positions[n] = sorted.len() - 1;
        }
        if sorted.len() > Self::MAX {
            return Err(Error::TooMany {
                given: sorted.len(),
                max: Self::MAX,
            });
        }
        firsts.sort();
        let mut tokens_of = vec![Vec::new(); sorted.len()];
        for (&at, token) in positions.iter().zip(tokens.into_iter().flatten()) {
            tokens_of[at].push(token);
        }
        Ok(Cart {
            sorted,
            named: positions,
            asked: firsts.into_iter().map(|(_, at)| at).collect(),
            tokens: tokens_of,
        })
    }

    /// The resources in byte order.
    pub fn sorted(&self) -> &[Resource] {
        &self.sorted
    }

    /// Positions in `sorted`, in the order asked.
    pub fn asked(&self) -> impl Iterator<Item = usize> {
        self.asked.iter().copied()
    }

    /// A number for each resource of `sorted`, from an array with one for each that was named; resources
    /// that were named twice must have the same one twice.
    pub fn numbers(
        &self,
        argument: &'static str,
        given: Option<RawArray<i32>>,
    ) -> Result<Option<Vec<i32>>, Error> {
        let Some(given) = given else { return Ok(None) };
        if given.len() != self.named.len() {
            return Err(Error::ElementCount {
                argument,
                given: given.len(),
                resources: self.named.len(),
            });
        }
        let mut numbers: Vec<Option<i32>> = vec![None; self.sorted.len()];
        for (&at, number) in self.named.iter().zip(given.elements()) {
            let number = number.ok_or(Error::Null { argument })?;
            if numbers[at]
                .replace(number)
                .is_some_and(|other| other != number)
            {
                return Err(Error::Ambiguous {
                    argument,
                    resource: self.sorted[at].as_text().clone(),
                });
            }
        }
        Ok(Some(numbers.into_iter().flatten().collect()))
    }

    /// The tokens that were given for the resource at a position of `sorted`.
    pub fn tokens_at(&self, at: usize) -> &[i64] {
        &self.tokens[at]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cart(names: &[&str]) -> Result<Cart, Error> {
        Cart::of(names.iter().copied().map(Resource::of).collect(), None)
    }

    #[test]
    fn a_cart_names_each_resource_once_sorted_and_as_asked() {
        let cart = cart(&["b", "a", "b", "Z"]).unwrap();
        assert_eq!(cart.sorted(), ["Z", "a", "b"].map(Resource::of));
        assert_eq!(cart.asked().collect::<Vec<_>>(), [2, 1, 0]);
    }

    #[test]
    fn a_cart_holds_at_most_1000_resources_not_counting_duplicates() {
        let names: Vec<_> = (0..1001).map(|n| n.to_string()).collect();
        let mut named: Vec<_> = names.iter().map(String::as_str).collect();
        assert_eq!(
            cart(&named).unwrap_err(),
            Error::TooMany {
                given: 1001,
                max: 1000
            }
        );
        named[1000] = "0";
        assert!(cart(&named).is_ok());
    }

    #[test]
    fn an_array_has_at_most_10000_elements() {
        assert_eq!(check_count("resources", 10_000), Ok(()));
        assert_eq!(
            check_count("resources", 10_001),
            Err(Error::TooManyElements {
                argument: "resources",
                given: 10_001,
                max: 10_000
            })
        );
    }

    #[test]
    fn a_cart_has_one_token_per_resource_as_named() {
        let parse = |tokens| Cart::of(["b", "a", "b"].map(Resource::of).into(), Some(tokens));
        let cart = parse(vec![1, 2, 3]).unwrap();
        assert_eq!(
            (cart.tokens_at(0), cart.tokens_at(1)),
            (&[2][..], &[1, 3][..])
        );
        let short = parse(vec![1]).unwrap_err();
        assert_eq!(
            short,
            Error::ElementCount {
                argument: "tokens",
                given: 1,
                resources: 3
            }
        );
    }
}
