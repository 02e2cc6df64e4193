package org.blockffn.demo

import android.graphics.Rect
import android.os.Build
import android.os.PowerManager
import android.view.View
import android.view.Window
import android.view.WindowInsets

/**
 * The only place that calls what came after API 26 (a test looks for it elsewhere). Every function asks for the version
 * first.
 */
object NewerApi {
    /** [onStatus] hears of thermal states, 0 (none) to 6, on the main thread; never before Android 10. */
    fun watchThermal(power: PowerManager, onStatus: (Int) -> Unit) {
        if (Build.VERSION.SDK_INT < 29) return
        onStatus(power.currentThermalStatus)
        try {
            power.addThermalStatusListener(object : PowerManager.OnThermalStatusChangedListener {
                override fun onThermalStatusChanged(status: Int) = onStatus(status)
            })
        } catch (refused: RuntimeException) {
            return  // what the system throws where it cannot measure
        }
    }

    /** As above; null before Android 10. */
    fun thermalStatus(power: PowerManager): Int? = if (Build.VERSION.SDK_INT >= 29) power.currentThermalStatus else null

    /** What the bars, the cut-out and the keyboard cover. */
    @Suppress("DEPRECATION")
    fun covered(insets: WindowInsets): Rect {
        if (Build.VERSION.SDK_INT >= 30) {
            val types = WindowInsets.Type.systemBars() or WindowInsets.Type.displayCutout() or WindowInsets.Type.ime()
            val covered = insets.getInsets(types)
            return Rect(covered.left, covered.top, covered.right, covered.bottom)
        }
        return Rect(
            insets.systemWindowInsetLeft, insets.systemWindowInsetTop, insets.systemWindowInsetRight, insets.systemWindowInsetBottom,
        )
    }

    /** Draws behind the bars, as Android 15 always does. */
    @Suppress("DEPRECATION")
    fun edgeToEdge(window: Window) {
        if (Build.VERSION.SDK_INT >= 30) {
            window.setDecorFitsSystemWindows(false)
        } else {
            val view = window.decorView
            view.systemUiVisibility = view.systemUiVisibility or View.SYSTEM_UI_FLAG_LAYOUT_STABLE or
                View.SYSTEM_UI_FLAG_LAYOUT_FULLSCREEN or View.SYSTEM_UI_FLAG_LAYOUT_HIDE_NAVIGATION
        }
    }
}
