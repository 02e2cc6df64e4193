plugins {
    alias(libs.plugins.android.application)
    alias(libs.plugins.kotlin.android)
}

android {
    namespace = "org.blockffn.demo"
    compileSdk = 36
    defaultConfig {
        applicationId = "org.blockffn.demo"
        minSdk = 26
        targetSdk = 36
        versionCode = 1
        versionName = "0.1.0"
    }
    // models.json, the models and NOTICES.txt, unpacked by `make apk ARGS="--assets build/android/assets"`.
    sourceSets["main"].assets.srcDir(rootDir.resolve("../build/android/assets"))
    androidResources { noCompress += listOf("pte", "json") }  // they are mapped in place
    packaging { jniLibs { useLegacyPackaging = false } }
    compileOptions {
        sourceCompatibility = JavaVersion.VERSION_1_8
        targetCompatibility = JavaVersion.VERSION_1_8
    }
    kotlinOptions { jvmTarget = "1.8" }
}

dependencies {
    implementation(project(":blockffn"))
}
