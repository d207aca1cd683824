//! The stored corpora of the fuzz targets, without a fuzzer: what was once found stays fixed. `fuzz/run` looks for more.

#[path = "../fuzz/src/lib.rs"]
mod targets;

use std::path::Path;

/// Runs everything in the corpus of one target.
fn check(target: &str) {
    let (_, check) = targets::TARGETS.iter().find(|(name, _)| *name == target).expect("a target");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut count = 0;
    for entry in std::fs::read_dir(&folder).expect("each target has a corpus") {
        let path = entry.expect("the folder can be listed").path();
        eprintln!("{}", path.display()); // shown if it fails
        targets::in_time(*check, &std::fs::read(&path).expect("it can be read"));
        count += 1;
    }
    assert!(count > 0, "{} is empty", folder.display());
}

macro_rules! corpora {
    ($($target:ident)*) => {
        $(
            #[test]
            fn $target() {
                check(stringify!($target));
            }
        )*

        #[test]
        fn every_target_is_here() {
            assert_eq!(targets::TARGETS.map(|(name, _)| name), [$(stringify!($target)),*]);
        }
    };
}

corpora!(requests replies dump packed journal rows configuration arguments glob numbers commands links lost bus gossip consensus forwarded published rdb append_only);
