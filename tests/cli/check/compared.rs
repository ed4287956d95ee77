//! Mistakes in what a test of a pipeline is to compare.

use insta::assert_snapshot;

use super::check;

#[test]
fn entries_of_snapshot_are_checked_against_the_stages() {
    let (_project, ran) = check(
        "
        stages:
          make: { kind: exec, outputs: { text: text }, with: { shell: 'echo > text' } }
        snapshot:
          - { metrics: mkae }
          - { text: make.txt }
          - { digest: 'make[a=1]' }
          - { metrics: make.text }
          - { table: make, tolerance: -1 }
          - { text: make, tolerance: 1 }
          - { txt: make }
          - { tolerance: 1 }
          - make
    ",
    );
    assert_snapshot!(ran);
}
