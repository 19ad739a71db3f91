//! The shared cache: bounded by bytes, least recently used first out.
//!
//! It is split into shards, each behind a lock of its own. Whatever leaves the cache is dropped after the lock has been
//! given back, by the thread that pushed it out, which is seldom the one that put it in.

use lru::LruCache;
use serde_json::Value;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

const SHARDS: usize = 16;

/// A JSON document.
#[derive(Debug, PartialEq)]
pub struct Item {
    /// The document.
    pub value: Value,
    /// The length of its text in bytes, which is what the cache's bound counts.
    pub bytes: usize,
}

/// How full the cache is.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub struct Usage {
    /// Items held.
    pub items: usize,
    /// Bytes held, at most the capacity.
    pub bytes: usize,
    /// Items that had to make room since the start.
    pub evicted: u64,
}

/// A shared map from keys to items.
pub struct Cache {
    shards: [Mutex<Shard>; SHARDS],
    bytes_per_shard: usize,
    hasher: RandomState,
    evicted: AtomicU64,
}

struct Shard {
    items: LruCache<String, Arc<Item>>,
    bytes: usize,
}

/// The item is larger than what the cache may hold of one shard.
#[derive(Debug, PartialEq)]
pub struct TooLarge {
    /// The largest item, in bytes.
    pub limit: usize,
}

impl Cache {
    /// An empty cache for at most so many bytes.
    pub fn new(capacity: usize) -> Self {
        Self {
            shards: std::array::from_fn(|_| Mutex::new(Shard { items: LruCache::unbounded(), bytes: 0 })),
            bytes_per_shard: capacity / SHARDS,
            hasher: RandomState::new(),
            evicted: AtomicU64::new(0),
        }
    }

    /// The item under the key, which becomes the most recently used one.
    pub fn get(&self, key: &str) -> Option<Arc<Item>> {
        self.shard(key).items.get(key).cloned()
    }

    /// Puts an item under the key and makes room for it. Gives back the item that was there.
    pub fn put(&self, key: String, item: Item) -> Result<Option<Arc<Item>>, TooLarge> {
        if item.bytes > self.bytes_per_shard {
            return Err(TooLarge { limit: self.bytes_per_shard });
        }
        let mut evicted = Vec::new();
        let mut shard = self.shard(&key);
        shard.bytes += item.bytes;
        let replaced = shard.items.put(key, Arc::new(item));
        shard.bytes -= replaced.as_ref().map_or(0, |item| item.bytes);
        while shard.bytes > self.bytes_per_shard
            && let Some((key, item)) = shard.items.pop_lru()
        {
            shard.bytes -= item.bytes;
            evicted.push((key, item));
        }
        drop(shard);
        self.evicted.fetch_add(evicted.len() as u64, Ordering::Relaxed);
        Ok(replaced)
    }

    /// Takes the item under the key out.
    pub fn remove(&self, key: &str) -> Option<Arc<Item>> {
        let mut shard = self.shard(key);
        let item = shard.items.pop(key)?;
        shard.bytes -= item.bytes;
        Some(item)
    }

    /// How full the cache is; shards are looked at one after the other, so the sums may be of slightly different times.
    pub fn usage(&self) -> Usage {
        let mut usage = Usage { items: 0, bytes: 0, evicted: self.evicted.load(Ordering::Relaxed) };
        for shard in &self.shards {
            let shard = lock(shard);
            usage.items += shard.items.len();
            usage.bytes += shard.bytes;
        }
        usage
    }

    fn shard(&self, key: &str) -> MutexGuard<'_, Shard> {
        // The remainder is below SHARDS, so it fits.
        lock(&self.shards[(self.hasher.hash_one(key) % SHARDS as u64) as usize])
    }
}

/// Nothing panics under a lock, and a shard is whole between any two steps.
fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(bytes: usize) -> Item {
        Item { value: Value::from(bytes), bytes }
    }

    /// Keys that fall into one shard, so that the order of eviction is known.
    fn keys_of_one_shard(cache: &Cache) -> impl Iterator<Item = String> {
        let shard = |key: &String| cache.hasher.hash_one(key.as_str()) % SHARDS as u64;
        (0..).map(|number: u32| number.to_string()).filter(move |key| shard(key) == 0)
    }

    #[test]
    fn an_item_comes_back_until_it_is_removed() {
        let cache = Cache::new(1 << 20);
        assert_eq!(cache.put("a".into(), item(10)), Ok(None));
        assert_eq!(cache.get("a").as_deref(), Some(&item(10)));
        assert_eq!(cache.put("a".into(), item(20)).unwrap().as_deref(), Some(&item(10)));
        assert_eq!(cache.usage().bytes, 20);
        assert_eq!(cache.remove("a").as_deref(), Some(&item(20)));
        assert_eq!((cache.get("a"), cache.usage().bytes, cache.usage().items), (None, 0, 0));
    }

    #[test]
    fn the_least_recently_used_item_makes_room() {
        let cache = Cache::new(SHARDS * 100);
        let keys: Vec<_> = keys_of_one_shard(&cache).take(3).collect();
        cache.put(keys[0].clone(), item(50)).unwrap();
        cache.put(keys[1].clone(), item(50)).unwrap();
        cache.get(&keys[0]);
        cache.put(keys[2].clone(), item(50)).unwrap();
        let held: Vec<_> = keys.iter().map(|key| cache.get(key).is_some()).collect();
        assert_eq!(held, [true, false, true]);
        assert_eq!((cache.usage().evicted, cache.usage().bytes), (1, 100));
    }

    #[test]
    fn an_item_that_would_empty_the_cache_is_refused() {
        let cache = Cache::new(SHARDS * 100);
        assert_eq!(cache.put("a".into(), item(101)), Err(TooLarge { limit: 100 }));
        assert_eq!(cache.put("a".into(), item(100)), Ok(None));
    }

    #[test]
    fn threads_that_evict_each_others_items_keep_the_account() {
        let cache = Cache::new(SHARDS * 1000);
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let cache = &cache;
                scope.spawn(move || {
                    for number in 0..5000_usize {
                        cache.put(format!("{thread}-{number}"), item(number % 300)).unwrap();
                        cache.remove(&format!("{}-{number}", (thread + 1) % 4));
                    }
                });
            }
        });
        let usage = cache.usage();
        assert!(usage.evicted > 0 && usage.bytes <= SHARDS * 1000, "{usage:?}");
        let bytes_in = |shard| lock(shard).items.iter().map(|(_, item)| item.bytes).sum::<usize>();
        let held: usize = cache.shards.iter().map(bytes_in).sum();
        assert_eq!(usage.bytes, held);
    }
}
