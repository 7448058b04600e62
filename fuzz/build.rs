//! Tells the runner whether the code under test counts what is reached.

fn main() {
    println!("cargo::rustc-check-cfg=cfg(instrumented)");
    println!("cargo::rerun-if-env-changed=HEDDLE_FUZZ_INSTRUMENTED");
    if std::env::var_os("HEDDLE_FUZZ_INSTRUMENTED").is_some() {
        println!("cargo::rustc-cfg=instrumented");
        // The compiler asks for what writes the counts at the end only where it instruments the program itself.
        println!("cargo::rustc-link-arg-bins=-Wl,-u,__llvm_profile_runtime");
    }
}
