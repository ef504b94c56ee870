//! The resources of a call that names several, parsed once at the door.

use crate::error::Error;
use crate::names::Resource;

/// A list of resources: each once, in byte order and in the order asked.
#[derive(Debug)]
pub struct Cart {
    sorted: Vec<Resource>,
    /// Positions in `sorted`, in the order in which the resources were first named.
    asked: Vec<usize>,
    /// The tokens given for each resource of `sorted`; none where the call has no tokens.
    tokens: Vec<Vec<i64>>,
}

impl Cart {
    pub const MAX: usize = 1000;

    /// The elements of the call's arrays; no tokens means that any token will do.
    pub fn parse<'a>(
        resources: Option<impl Iterator<Item = Option<&'a str>>>,
        tokens: Option<impl Iterator<Item = Option<i64>>>,
    ) -> Result<Self, Error> {
        let named = resources.ok_or(Error::Null {
            argument: "resources",
        })?;
        let named = named.map(Resource::parse).collect::<Result<Vec<_>, _>>()?;
        let tokens = tokens.map(|tokens| tokens.collect::<Vec<_>>());
        if let Some(tokens) = &tokens
            && tokens.len() != named.len()
        {
            return Err(Error::TokenCount {
                tokens: tokens.len(),
                resources: named.len(),
            });
        }
        let mut sorted = named.clone();
        sorted.sort();
        sorted.dedup();
        if sorted.len() > Self::MAX {
            return Err(Error::TooMany {
                given: sorted.len(),
                max: Self::MAX,
            });
        }
        let position = |resource| sorted.binary_search(resource).expect("sorted has them all");
        let mut asked = Vec::with_capacity(sorted.len());
        let mut seen = vec![false; sorted.len()];
        let mut tokens_of = vec![Vec::new(); sorted.len()];
        for (n, resource) in named.iter().enumerate() {
            let at = position(resource);
            if !std::mem::replace(&mut seen[at], true) {
                asked.push(at);
            }
            if let Some(tokens) = &tokens {
                tokens_of[at].push(tokens[n].ok_or(Error::Null { argument: "token" })?);
            }
        }
        Ok(Cart {
            sorted,
            asked,
            tokens: tokens_of,
        })
    }

    /// The resources in byte order.
    pub fn sorted(&self) -> &[Resource] {
        &self.sorted
    }

    /// The resources in the order asked.
    pub fn asked(&self) -> impl Iterator<Item = &str> {
        self.asked.iter().map(|&at| self.sorted[at].as_str())
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
        Cart::parse(
            Some(names.iter().map(|&name| Some(name))),
            None::<std::iter::Empty<_>>,
        )
    }

    #[test]
    fn a_cart_names_each_resource_once_sorted_and_as_asked() {
        let cart = cart(&["b", "a", "b", "Z"]).unwrap();
        let sorted: Vec<_> = cart.sorted().iter().map(Resource::as_str).collect();
        assert_eq!(sorted, ["Z", "a", "b"]);
        assert_eq!(cart.asked().collect::<Vec<_>>(), ["b", "a", "Z"]);
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
    fn a_cart_has_one_token_per_resource_as_named() {
        let parse = |tokens: Vec<_>| {
            let resources = ["b", "a", "b"].into_iter().map(Some);
            Cart::parse(Some(resources), Some(tokens.into_iter()))
        };
        let cart = parse(vec![Some(1), Some(2), Some(3)]).unwrap();
        assert_eq!(
            (cart.tokens_at(0), cart.tokens_at(1)),
            (&[2][..], &[1, 3][..])
        );
        let short = parse(vec![Some(1)]).unwrap_err();
        assert_eq!(
            short,
            Error::TokenCount {
                tokens: 1,
                resources: 3
            }
        );
        let null = parse(vec![Some(1), None, Some(3)]).unwrap_err();
        assert_eq!(null, Error::Null { argument: "token" });
    }
}
