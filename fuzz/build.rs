//! Builds what C says about numbers.

fn main() {
    println!("cargo::rerun-if-changed=oracle.c");
    cc::Build::new().file("oracle.c").compile("oracle");
}
