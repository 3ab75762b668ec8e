//! A value of a YAML file whatever its kind, in bounded memory.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{
    Deserialize, Deserializer, EnumAccess, IgnoredAny, MapAccess, SeqAccess, VariantAccess, Visitor,
};

use super::key_format;
use crate::auth::identity::Machine;

/// A value of the file: a list becomes an `L`, a mapping an `M`.
pub(super) enum Node<L, M> {
    /// `~`, `null`, or nothing after the colon.
    Nothing,
    Bool(bool),
    /// Plain digits and the like; YAML readers disagree about their spelling, so they are no text.
    Number,
    Text(Box<str>),
    /// Longer than anything that belongs into a registry, therefore not kept.
    LongText,
    /// A value with a YAML tag (`!something`).
    Tagged,
    List(L),
    Mapping(M),
}

/// What may stand where no mapping and no list belongs.
pub(super) type Item = Node<IgnoredAny, IgnoredAny>;

/// The items of a list inside a machine; those past [`Machine::MAX_KEYS`] are only counted.
pub(super) struct FieldList {
    pub(super) items: Vec<Item>,
    pub(super) count: usize,
}

impl<'de, L: Deserialize<'de>, M: Deserialize<'de>> Deserialize<'de> for Node<L, M> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor(PhantomData))
    }
}

struct NodeVisitor<L, M>(PhantomData<(L, M)>);

impl<'de, L: Deserialize<'de>, M: Deserialize<'de>> Visitor<'de> for NodeVisitor<L, M> {
    type Value = Node<L, M>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_none<E>(self) -> Result<Self::Value, E> {
        Ok(Node::Nothing)
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Node::Nothing)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Self::Value, E> {
        Ok(Node::Bool(value))
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
        Ok(Node::Number)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
        Ok(Node::Number)
    }

    fn visit_u128<E>(self, _: u128) -> Result<Self::Value, E> {
        Ok(Node::Number)
    }

    fn visit_i128<E>(self, _: i128) -> Result<Self::Value, E> {
        Ok(Node::Number)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok(Node::Number)
    }

    /// Text is copied, once for every alias of it, so its length is bounded here.
    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(if text.len() > key_format::MAX_LEN {
            Node::LongText
        } else {
            Node::Text(text.into())
        })
    }

    fn visit_enum<A: EnumAccess<'de>>(self, tagged: A) -> Result<Self::Value, A::Error> {
        let (IgnoredAny, value) = tagged.variant()?;
        value.newtype_variant::<IgnoredAny>()?;
        Ok(Node::Tagged)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<Self::Value, A::Error> {
        L::deserialize(SeqAccessDeserializer::new(items)).map(Node::List)
    }

    fn visit_map<A: MapAccess<'de>>(self, entries: A) -> Result<Self::Value, A::Error> {
        M::deserialize(MapAccessDeserializer::new(entries)).map(Node::Mapping)
    }
}

impl<'de> Deserialize<'de> for FieldList {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Items;
        impl<'de> Visitor<'de> for Items {
            type Value = FieldList;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<FieldList, A::Error> {
                let mut items = Vec::new();
                while items.len() < Machine::MAX_KEYS
                    && let Some(item) = access.next_element()?
                {
                    items.push(item);
                }
                let mut count = items.len();
                while let Some(IgnoredAny) = access.next_element()? {
                    count += 1;
                }
                Ok(FieldList { items, count })
            }
        }
        deserializer.deserialize_seq(Items)
    }
}
