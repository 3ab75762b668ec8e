//! A value of a YAML file whatever its kind, in bounded memory.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{
    Deserialize, Deserializer, EnumAccess, IgnoredAny, MapAccess, SeqAccess, VariantAccess, Visitor,
};

use super::key_format;
use crate::auth::identity::Machine;
use crate::auth::policy::List;

/// A value of the file: a list becomes an `L`, a mapping an `M`.
pub(super) enum Node<L, M> {
    /// `~`, `null`, or nothing after the colon.
    Nothing,
    Bool(bool),
    /// Plain digits and the like; YAML readers disagree about their spelling, so they are no text.
    /// The number, where it is whole and not negative.
    Number(Option<u64>),
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

/// The items of a list inside an entry; those past [`MAX_ITEMS`] are only counted.
pub(super) struct FieldList {
    pub(super) items: Vec<Node<IgnoredAny, Small>>,
    pub(super) count: usize,
}

/// Most items kept of one list: as many as any list may have.
const MAX_ITEMS: usize = {
    assert!(List::<()>::MAX >= Machine::MAX_KEYS);
    List::<()>::MAX
};

/// A mapping of a few plain values, inside an entry: a key with its dates, or a rate.
pub(super) struct Small(pub(super) Vec<(Item, Item)>);

/// Most values kept of one: more than are known, so that of more one is unknown or there twice.
const MAX_VALUES: usize = 8;

/// The memory that a value takes, roughly: an alias of it takes that once more.
pub(super) trait Weight {
    /// In bytes.
    fn weight(&self) -> usize;
}

impl Weight for IgnoredAny {
    fn weight(&self) -> usize {
        0
    }
}

impl Weight for FieldList {
    fn weight(&self) -> usize {
        self.items.iter().map(Weight::weight).sum()
    }
}

impl Weight for Small {
    fn weight(&self) -> usize {
        let values = self.0.iter();
        values
            .map(|(key, value)| key.weight() + value.weight())
            .sum()
    }
}

impl<L: Weight, M: Weight> Weight for Node<L, M> {
    fn weight(&self) -> usize {
        const SMALLEST: usize = 16;
        SMALLEST
            + match self {
                Node::Text(text) => text.len(),
                Node::List(list) => list.weight(),
                Node::Mapping(mapping) => mapping.weight(),
                _ => 0,
            }
    }
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

    fn visit_u64<E>(self, number: u64) -> Result<Self::Value, E> {
        Ok(Node::Number(Some(number)))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
        Ok(Node::Number(None))
    }

    fn visit_u128<E>(self, _: u128) -> Result<Self::Value, E> {
        Ok(Node::Number(None))
    }

    fn visit_i128<E>(self, _: i128) -> Result<Self::Value, E> {
        Ok(Node::Number(None))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok(Node::Number(None))
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
                while items.len() < MAX_ITEMS
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

impl<'de> Deserialize<'de> for Small {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Values;
        impl<'de> Visitor<'de> for Values {
            type Value = Small;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a mapping")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Small, A::Error> {
                let mut values = Vec::new();
                while values.len() < MAX_VALUES
                    && let Some(value) = entries.next_entry()?
                {
                    values.push(value);
                }
                while entries.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Small(values))
            }
        }
        deserializer.deserialize_map(Values)
    }
}
