// swift-tools-version:5.9
// Two ways to get the native part, CBlockFFN:
// - Apple platforms compile the runner's C++ sources (links into runtime_delegates/) as a target of this
//   package, against ExecuTorch's own Swift package.
// - Linux links the libraries that `make build` made, so that tests run what the desktop runs. With
//   BLOCKFFN_EXECUTORCH=<folder of the ExecuTorch wheel> it compiles the sources as Apple platforms do.
import PackageDescription

let executorchVersion = "1.5.1"  // as in pyproject.toml

let native: Target
var dependencies: [Package.Dependency] = []
var metal: [Target.Dependency] = []
var hasMetal = true
var metalSettings: [SwiftSetting] = []
var linkLinux: [LinkerSetting] = []
var linkObservation: [LinkerSetting] = []

func compiled(
  _ libraries: [Target.Dependency], flags: [String], linkerSettings: [LinkerSetting] = []
) -> Target {
  .target(
    name: "CBlockFFN",
    dependencies: libraries,
    exclude: [
      "fallback", "runner/main.cc", "runner/tokenizer/unicode_letters.inc", "runner/tokenizer/unicode_numbers.inc",
      // Vulkan's part, and sources of what is in metal.inc: the library compiles them at run time.
      "gpu/vulkan.cc", "gpu/vulkan_recording.cc", "gpu/shaders.inc", "gpu/shaders", "gpu/metal", "gpu/metal.inc",
      "gpu/build_shaders.py", "gpu/README.md",
    ],
    sources: ["executorch", "gpu", "kernels", "program", "runner"],
    publicHeadersPath: "include",
    cxxSettings: [
      .define("C10_USING_CUSTOM_GENERATED_MACROS"),
      .define("ET_USE_THREADPOOL"),
      .define("BLOCKFFN_GPU"),
      // Optimized in debug builds too: unoptimized kernels are no use to anybody. A chunk must give the
      // same bits as its tokens one by one, so no multiplication and addition may be fused.
      .unsafeFlags(["-O3", "-ffp-contract=off", "-fno-math-errno"] + flags),
      .headerSearchPath("fallback"),
    ],
    linkerSettings: linkerSettings
  )
}

#if os(Linux)
  import Foundation

  let environment = ProcessInfo.processInfo.environment
  // Tests lend a module named Metal that runs kernels on the CPU; it needs the native part compiled here.
  if let folder = environment["BLOCKFFN_METAL_STAND_IN"] {
    dependencies = [.package(name: "metal_stand_in", path: folder)]
    metal = [.product(name: "Metal", package: "metal_stand_in")]
    metalSettings = [.define("METAL_STAND_IN")]
  } else {
    hasMetal = false
  }
  func linked(_ libraries: [String], in folders: [String]) -> [LinkerSetting] {
    [.unsafeFlags(folders.flatMap { ["-L\($0)", "-Xlinker", "-rpath", "-Xlinker", $0] })]
      + libraries.map { .linkedLibrary($0) }
  }
  // Swift 6.0's libswiftObservation names a function of its threading library that nothing on Linux defines.
  linkObservation = [.unsafeFlags(["-Xlinker", "--allow-shlib-undefined"])]
  if let wheel = environment["BLOCKFFN_EXECUTORCH"] {
    native = compiled(
      [],
      flags: ["-I\(wheel)/include", "-I\(wheel)/include/executorch/runtime/core/portable_type/c10"],
      linkerSettings: linked(["executorch", "executorch_threadpool"], in: ["\(wheel)/lib"])
    )
  } else {
    native = .systemLibrary(name: "CBlockFFN", path: "Sources/CBlockFFN/include")
    let build =
      environment["BLOCKFFN_BUILD"]
      ?? URL(fileURLWithPath: Context.packageDirectory + "/../../build").standardized.path
    linkLinux = linked(["blockffn_runner", "blockffn_executorch"], in: [build])
  }
#else
  dependencies = [
    .package(url: "https://github.com/pytorch/executorch.git", branch: "swiftpm-\(executorchVersion)")
  ]
  native = compiled(
    [
      .product(name: "executorch", package: "executorch"),
      // For the thread pool that it brings; our programs call no operator of it.
      .product(name: "kernels_optimized", package: "executorch"),
    ],
    flags: []
  )
#endif

let package = Package(
  name: "BlockFFNKit",
  platforms: [.iOS(.v17), .macOS(.v14)],
  products: [
    .library(name: "BlockFFNKit", targets: ["BlockFFNKit"]),
    .library(name: "BlockFFNDemoModel", targets: ["BlockFFNDemoModel"]),
  ],
  dependencies: dependencies,
  targets: [
    native,
    .target(name: "BlockFFNKit", dependencies: ["CBlockFFN"] + metal, linkerSettings: linkLinux),
    .target(name: "BlockFFNDemoModel", dependencies: ["BlockFFNKit"], linkerSettings: linkObservation),
    .testTarget(name: "BlockFFNKitTests", dependencies: ["BlockFFNKit"]),
    .testTarget(name: "BlockFFNDemoModelTests", dependencies: ["BlockFFNDemoModel"]),
  ]
    + (hasMetal
      ? [.testTarget(name: "BlockFFNMetalTests", dependencies: ["BlockFFNKit"] + metal, swiftSettings: metalSettings)]
      : []),
  cxxLanguageStandard: .cxx17
)
