// For Android Studio. Not built where this repository is tested: Google's Maven is not reachable there (see README.md).
pluginManagement {
    repositories {
        google()
        mavenCentral()
        gradlePluginPortal()
    }
}

dependencyResolutionManagement {
    repositories {
        google()
        mavenCentral()
    }
}

rootProject.name = "blockffn-demo"
include(":blockffn", ":app")
