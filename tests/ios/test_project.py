"""The Xcode project, read without Xcode: it parses, its objects and files exist, and its settings are what the app needs."""

import json
import plistlib
import re

import openstep_parser
import pytest
from tests.ios.conftest import ROOT

DEMO = ROOT / "ios_demo"
APP = DEMO / "App"
REFERENCES = {  # attributes that hold the key of another object, or a list of keys
    "rootObject", "mainGroup", "productRefGroup", "buildConfigurationList", "productReference", "productRef", "target",
    "children", "files", "targets", "buildPhases", "buildConfigurations", "packageReferences", "fileRef", "exceptions",
    "packageProductDependencies", "fileSystemSynchronizedGroups", "dependencies",
}


@pytest.fixture(scope="module")
def project():
    with open(DEMO / "BlockFFNDemo.xcodeproj" / "project.pbxproj", encoding="utf-8") as file:
        return openstep_parser.OpenStepDecoder.ParseFromFile(file)


def of_kind(project, isa):
    return [one for one in project["objects"].values() if one["isa"] == isa]


def keys_in(one):
    for name in REFERENCES & set(one):
        yield from one[name] if isinstance(one[name], list) else [one[name]]


def test_every_object_that_is_named_exists_and_is_used(project):
    objects = project["objects"]
    assert len(objects) == 22 and all(re.fullmatch(r"[0-9A-F]{24}", key) for key in objects)
    reached, waiting = set(), [project["rootObject"]]
    while waiting:
        key = waiting.pop()
        assert key in objects, f"{key} is named but not there"
        if key not in reached:
            reached.add(key)
            waiting += keys_in(objects[key])
    assert reached == set(objects)


def test_comments_name_what_they_stand_beside(project):
    """Xcode shows the object's own name; a person who edits the file reads the comment."""
    text = (DEMO / "BlockFFNDemo.xcodeproj" / "project.pbxproj").read_text(encoding="utf-8")
    names: dict[str, set[str]] = {}
    for key, name in re.findall(r"\b([0-9A-F]{24}) /\* (.*?) \*/", text):
        names.setdefault(key, set()).add(name)
    assert all(len(of_key) == 1 for of_key in names.values()), names


def test_every_file_that_is_named_exists(project):
    paths = [one["path"] for one in of_kind(project, "PBXFileReference") if one["sourceTree"] == "<group>"]
    for group in of_kind(project, "PBXFileSystemSynchronizedRootGroup"):
        paths += [group["path"], *(f"{group['path']}/{folder}" for folder in group["explicitFolders"])]
        for key in group["exceptions"]:
            paths += [f"{group['path']}/{name}" for name in project["objects"][key]["membershipExceptions"]]
    for one in of_kind(project, "XCBuildConfiguration"):
        settings = one["buildSettings"]
        paths += [settings[name] for name in ("INFOPLIST_FILE", "CODE_SIGN_ENTITLEMENTS") if name in settings]
    assert {"README.md", "App", "App/Models", "App/Info.plist", "App/BlockFFNDemo.entitlements"} <= set(paths)
    assert [path for path in paths if not (DEMO / path).exists()] == []


def test_the_package_is_there_and_has_the_products(project):
    (package,) = of_kind(project, "XCLocalSwiftPackageReference")
    manifest = (DEMO / package["relativePath"] / "Package.swift").read_text()
    products = {one["productName"] for one in of_kind(project, "XCSwiftPackageProductDependency")}
    assert products == set(re.findall(r'\.library\(name: "(\w+)"', manifest))
    imported = {name for file in APP.glob("*.swift") for name in re.findall(r"^import (BlockFFN\w+)", file.read_text(), re.M)}
    assert imported == products


def test_links_of_the_package_lead_to_the_sources():
    native = DEMO / "BlockFFNKit" / "Sources" / "CBlockFFN"
    links = sorted(path for path in native.rglob("*") if path.is_symlink())
    assert [link.relative_to(native).as_posix() for link in links] == [
        "executorch", "gpu", "include/blockffn.h", "include/blockffn_metal.h", "include/blockffn_runner.h", "kernels", "program",
        "runner"]
    runtime = ROOT / "runtime_delegates"
    assert all(link.resolve().is_relative_to(runtime) and link.exists() for link in links)
    assert all(str(link.readlink()).startswith("../") for link in links)
    # SwiftPM takes every other file for a source too.
    manifest = (DEMO / "BlockFFNKit" / "Package.swift").read_text()
    for folder in ("executorch", "gpu", "kernels", "program", "runner"):
        for file in (runtime / folder).rglob("*"):
            if file.is_file() and file.suffix not in (".cc", ".h", ".pyc"):
                below = [file, *file.parents][: len(file.relative_to(runtime).parts) - 1]
                assert any(f'"{path.relative_to(runtime).as_posix()}"' in manifest for path in below), f"exclude {file} in Package.swift"
    # Xcode compiles every source below the links; the desktop's CMake names them one by one.
    assert '"runner/main.cc"' in manifest  # the desktop's command
    cmake = (runtime / "CMakeLists.txt").read_text()
    for folder in ("executorch", "kernels", "program", "runner"):
        for source in (runtime / folder).rglob("*.cc"):
            assert source.relative_to(runtime).as_posix() in cmake, f"{source} is not part of the desktop's libraries"


def test_build_settings(project):
    objects = project["objects"]
    (target,) = of_kind(project, "PBXNativeTarget")
    assert target["productType"] == "com.apple.product-type.application"
    for owner in (target, objects[project["rootObject"]]):
        names = [objects[key]["name"] for key in objects[owner["buildConfigurationList"]]["buildConfigurations"]]
        assert names == ["Debug", "Release"]
    settings = [one["buildSettings"] for one in of_kind(project, "XCBuildConfiguration")]
    assert {one["IPHONEOS_DEPLOYMENT_TARGET"] for one in settings if "SDKROOT" in one} == {"17.0"}
    assert '.iOS(.v17)' in (DEMO / "BlockFFNKit" / "Package.swift").read_text()
    app = [one for one in settings if "INFOPLIST_FILE" in one]
    assert len(app) == 2 and app[0] == app[1]
    assert app[0]["PRODUCT_BUNDLE_IDENTIFIER"] == "org.blockffn.demo" and app[0]["TARGETED_DEVICE_FAMILY"] == "1,2"


def test_property_lists():
    info = plistlib.loads((APP / "Info.plist").read_bytes())
    for key in ("CFBundleIdentifier", "CFBundleExecutable", "CFBundleVersion", "CFBundleShortVersionString", "CFBundleName"):
        assert re.fullmatch(r"\$\(\w+\)", info[key]), key
    assert info["CFBundlePackageType"] == "APPL" and info["UILaunchScreen"] == {}
    assert info["UIFileSharingEnabled"] and info["LSSupportsOpeningDocumentsInPlace"]  # models through the Files app
    assert "UIInterfaceOrientationLandscapeLeft" in info["UISupportedInterfaceOrientations"]
    assert plistlib.loads((APP / "BlockFFNDemo.entitlements").read_bytes()) == {
        "com.apple.developer.kernel.increased-memory-limit": True}
    privacy = plistlib.loads((APP / "PrivacyInfo.xcprivacy").read_bytes())
    declared = {one["NSPrivacyAccessedAPIType"] for one in privacy["NSPrivacyAccessedAPITypes"]}
    sources = "".join(path.read_text() for path in APP.glob("*.swift"))
    assert ("NSPrivacyAccessedAPICategoryUserDefaults" in declared) == ("UserDefaults" in sources)
    # Apple asks for reasons for these wherever they are linked in, the native part included.
    native = "".join(path.read_text() for folder in ("executorch", "gpu", "kernels", "program", "runner")
                     for path in (ROOT / "runtime_delegates" / folder).rglob("*.cc") if path.name != "main.cc" and "vulkan" not in path.name)
    asked = {"FileTimestamp": r"\bf?l?stat(at)?\(|getattrlist", "DiskSpace": r"\bf?statv?fs\(", "SystemBootTime": r"mach_absolute_time|systemUptime",
             "ActiveKeyboards": r"activeInputModes"}
    package = "".join(path.read_text() for path in (DEMO / "BlockFFNKit" / "Sources").rglob("*.swift"))
    for name, calls in asked.items():
        used = re.search(calls, native + package + sources) is not None
        assert (f"NSPrivacyAccessedAPICategory{name}" in declared) == used, name


def test_asset_catalogue(project):
    catalogue = APP / "Assets.xcassets"
    for file in catalogue.rglob("*"):
        assert file.is_dir() or (file.name == "Contents.json" and json.loads(file.read_text())["info"]["version"] == 1)
    settings = next(one["buildSettings"] for one in of_kind(project, "XCBuildConfiguration")
                    if "INFOPLIST_FILE" in one["buildSettings"])
    assert (catalogue / f"{settings['ASSETCATALOG_COMPILER_APPICON_NAME']}.appiconset").is_dir()
    assert (catalogue / f"{settings['ASSETCATALOG_COMPILER_GLOBAL_ACCENT_COLOR_NAME']}.colorset").is_dir()


def test_the_accent_colour_can_be_read_by_day_and_night():
    def luminance(colour):
        linear = lambda v: v / 12.92 if v <= 0.03928 else ((v + 0.055) / 1.055) ** 2.4  # noqa: E731
        return sum(part * linear(float(colour["color"]["components"][name]))
                   for name, part in (("red", 0.2126), ("green", 0.7152), ("blue", 0.0722)))

    day, night = json.loads((APP / "Assets.xcassets/AccentColor.colorset/Contents.json").read_text())["colors"]
    assert "appearances" not in day and night["appearances"] == [{"appearance": "luminosity", "value": "dark"}]
    assert 1.05 / (luminance(day) + 0.05) >= 4.5 and (luminance(night) + 0.05) / 0.05 >= 4.5


def test_controls_are_labelled():
    """Every button of the app says what it does to VoiceOver: none is an image alone."""
    sources = {path.name: path.read_text() for path in APP.glob("*.swift")}
    for name, text in sources.items():
        assert not re.search(r"Button\s*\{\s*\}|Image\(systemName", text), name
        assert not re.search(r"\.font\(\.system\(size", text), f"{name}: a fixed size ignores Dynamic Type"
    assert "accessibilityLabel" in sources["ChatView.swift"] and "accessibilityValue" in sources["BenchmarkView.swift"]
