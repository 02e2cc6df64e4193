package org.blockffn.demo

import android.content.Context
import android.content.Intent
import android.content.IntentFilter
import android.os.BatteryManager
import android.os.PowerManager
import java.io.File
import java.io.IOException

/** What the device says of itself; null where it does not. */
data class DeviceState(val batteryPercent: Int?, val batteryCelsius: Double?, val bigCoreMhz: Int?, val thermal: Int?) {
    companion object {
        fun now(context: Context): DeviceState {
            val battery = context.registerReceiver(null, IntentFilter(Intent.ACTION_BATTERY_CHANGED))
            val level = battery?.getIntExtra(BatteryManager.EXTRA_LEVEL, -1) ?: -1
            val scale = battery?.getIntExtra(BatteryManager.EXTRA_SCALE, -1) ?: -1
            val tenths = battery?.getIntExtra(BatteryManager.EXTRA_TEMPERATURE, Int.MIN_VALUE) ?: Int.MIN_VALUE
            return DeviceState(
                if (level >= 0 && scale > 0) level * 100 / scale else null, if (tenths != Int.MIN_VALUE) tenths / 10.0 else null, bigCoreMhz(),
                thermal(context),
            )
        }

        /** PowerManager's status: above 0 the system slows the processor down. */
        fun thermal(context: Context) = NewerApi.thermalStatus(context.getSystemService(Context.POWER_SERVICE) as PowerManager)

        /** Present clock of the core with the highest maximum. */
        private fun bigCoreMhz(): Int? {
            val cores = File("/sys/devices/system/cpu").listFiles { f -> f.name.matches(Regex("cpu[0-9]+")) } ?: return null
            val clocks = cores.mapNotNull { core ->
                val most = number(File(core, "cpufreq/cpuinfo_max_freq")) ?: return@mapNotNull null
                val now = number(File(core, "cpufreq/scaling_cur_freq")) ?: return@mapNotNull null
                most to now
            }
            return clocks.maxByOrNull { it.first }?.second?.div(1000)
        }

        private fun number(file: File): Int? = try {
            file.readText().trim().toIntOrNull()
        } catch (hidden: IOException) {
            null
        }
    }
}
