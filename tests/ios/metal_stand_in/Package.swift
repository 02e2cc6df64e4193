// swift-tools-version:5.9
// A module named Metal for Linux: what `#if canImport(Metal)` sees in the tests of ios_demo/BlockFFNKit.
import PackageDescription

let package = Package(
  name: "metal_stand_in",
  products: [.library(name: "Metal", targets: ["Metal"])],
  targets: [.target(name: "Metal")]
)
