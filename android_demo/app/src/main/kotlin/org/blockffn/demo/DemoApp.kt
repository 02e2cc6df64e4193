package org.blockffn.demo

import android.app.Application

/** Holds the session, which outlives a rotation. */
class DemoApp : Application() {
    val session by lazy { Session(this) }

    override fun onTrimMemory(level: Int) {
        super.onTrimMemory(level)
        session.trimMemory(level)
    }
}
