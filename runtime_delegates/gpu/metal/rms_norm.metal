// Written by build_shaders.py from shaders/rms_norm.comp; do not edit. Compile without fast math.
#pragma clang diagnostic ignored "-Wmissing-prototypes"

#include <metal_stdlib>
#include <simd/simd.h>

using namespace metal;

template<typename T>
[[clang::optnone]] T spvFMul(T l, T r)
{
    return fma(l, r, T(0));
}

template<typename T>
[[clang::optnone]] T spvFAdd(T l, T r)
{
    return fma(T(1), l, r);
}

struct Push
{
    uint cols;
    uint x_stride;
    uint y_stride;
    uint weight_at;
    uint cache;
    float eps;
};

#ifndef BLOCKFFN_THREADS
#define BLOCKFFN_THREADS 64u
#endif
constant uint THREADS = BLOCKFFN_THREADS;

struct X
{
    float x[1];
};

constant uint _128 = (8u * THREADS);

struct Step
{
    uint step_[1];
};

struct Result
{
    uint result[1];
};

struct Weight
{
    float weight[1];
};

struct Y
{
    float y[1];
};

#ifndef BLOCKFFN_THREADS
#define BLOCKFFN_THREADS 64u
#endif
constant uint _386 = BLOCKFFN_THREADS;
constant uint3 gl_WorkGroupSize [[maybe_unused]] = uint3(_386, 1u, 1u);

kernel void rms_norm(constant Push& p [[buffer(0)]], const device X& _73 [[buffer(2)]], device Y& _374 [[buffer(3)]], const device Weight& _362 [[buffer(4)]], const device Step& _249 [[buffer(5)]], device Result& _280 [[buffer(6)]], uint3 gl_LocalInvocationID [[thread_position_in_threadgroup]], uint3 gl_WorkGroupID [[threadgroup_position_in_grid]])
{
    threadgroup float sums[THREADS];
    threadgroup uint peaks[THREADS];
    threadgroup float chunk_sums[16];
    threadgroup uint chunk_peaks[16];
    do
    {
        uint _237 = gl_WorkGroupID.x * p.x_stride;
        uint _719;
        if (p.cache != 0u)
        {
            _719 = _249.step_[1] + gl_WorkGroupID.x;
        }
        else
        {
            _719 = gl_WorkGroupID.x;
        }
        if (gl_WorkGroupID.x >= _249.step_[0])
        {
            break;
        }
        uint _720;
        float _721;
        uint _722;
        _722 = 0u;
        _721 = 0.0;
        _720 = gl_LocalInvocationID.x;
        uint _1797;
        float _1807;
        uint _417;
        bool _418;
        for (;;)
        {
            _417 = p.cols;
            _418 = _720 < _417;
            if (_418)
            {
                float _776;
                if (_418)
                {
                    _776 = _73.x[_237 + _720];
                }
                else
                {
                    _776 = 0.0;
                }
                float _1506;
                if ((_720 + THREADS) < _417)
                {
                    _1506 = _73.x[(_237 + _720) + THREADS];
                }
                else
                {
                    _1506 = 0.0;
                }
                uint _1515 = 2u * THREADS;
                float _1528;
                if ((_720 + _1515) < _417)
                {
                    _1528 = _73.x[(_237 + _720) + _1515];
                }
                else
                {
                    _1528 = 0.0;
                }
                uint _1537 = 3u * THREADS;
                float _1550;
                if ((_720 + _1537) < _417)
                {
                    _1550 = _73.x[(_237 + _720) + _1537];
                }
                else
                {
                    _1550 = 0.0;
                }
                uint _1559 = 4u * THREADS;
                float _1572;
                if ((_720 + _1559) < _417)
                {
                    _1572 = _73.x[(_237 + _720) + _1559];
                }
                else
                {
                    _1572 = 0.0;
                }
                uint _1581 = 5u * THREADS;
                float _1594;
                if ((_720 + _1581) < _417)
                {
                    _1594 = _73.x[(_237 + _720) + _1581];
                }
                else
                {
                    _1594 = 0.0;
                }
                uint _1603 = 6u * THREADS;
                float _1616;
                if ((_720 + _1603) < _417)
                {
                    _1616 = _73.x[(_237 + _720) + _1603];
                }
                else
                {
                    _1616 = 0.0;
                }
                uint _1625 = 7u * THREADS;
                float _1638;
                if ((_720 + _1625) < _417)
                {
                    _1638 = _73.x[(_237 + _720) + _1625];
                }
                else
                {
                    _1638 = 0.0;
                }
                _1797 = max(max(max(max(max(max(max(max(_722, (as_type<uint>(_776) & 2147483647u)), (as_type<uint>(_1506) & 2147483647u)), (as_type<uint>(_1528) & 2147483647u)), (as_type<uint>(_1550) & 2147483647u)), (as_type<uint>(_1572) & 2147483647u)), (as_type<uint>(_1594) & 2147483647u)), (as_type<uint>(_1616) & 2147483647u)), (as_type<uint>(_1638) & 2147483647u));
                _1807 = fma(_1638, _1638, fma(_1616, _1616, fma(_1594, _1594, fma(_1572, _1572, fma(_1550, _1550, fma(_1528, _1528, fma(_1506, _1506, fma(_776, _776, _721))))))));
                _722 = _1797;
                _721 = _1807;
                _720 += _128;
                continue;
            }
            else
            {
                break;
            }
        }
        sums[gl_LocalInvocationID.x] = _721;
        peaks[gl_LocalInvocationID.x] = _722;
        threadgroup_barrier(mem_flags::mem_threadgroup);
        bool _495 = gl_LocalInvocationID.x < 16u;
        if (_495)
        {
            float _724;
            uint _725;
            _725 = peaks[gl_LocalInvocationID.x];
            _724 = sums[gl_LocalInvocationID.x];
            for (uint _723 = 16u; _723 < THREADS; )
            {
                uint _510 = gl_LocalInvocationID.x + _723;
                _725 = max(_725, peaks[_510]);
                _724 = spvFAdd(_724, sums[_510]);
                _723 += 16u;
                continue;
            }
            chunk_sums[gl_LocalInvocationID.x] = _724;
            chunk_peaks[gl_LocalInvocationID.x] = _725;
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        float _534 = chunk_sums[0];
        uint _536 = chunk_peaks[0];
        float _544 = chunk_sums[1u];
        uint _550 = chunk_peaks[1u];
        float _1286 = chunk_sums[2u];
        uint _1289 = chunk_peaks[2u];
        float _1301 = chunk_sums[3u];
        uint _1304 = chunk_peaks[3u];
        float _1316 = chunk_sums[4u];
        uint _1319 = chunk_peaks[4u];
        float _1331 = chunk_sums[5u];
        uint _1334 = chunk_peaks[5u];
        float _1346 = chunk_sums[6u];
        uint _1349 = chunk_peaks[6u];
        float _1361 = chunk_sums[7u];
        uint _1364 = chunk_peaks[7u];
        float _1376 = chunk_sums[8u];
        uint _1379 = chunk_peaks[8u];
        float _1391 = chunk_sums[9u];
        uint _1394 = chunk_peaks[9u];
        float _1406 = chunk_sums[10u];
        uint _1409 = chunk_peaks[10u];
        float _1421 = chunk_sums[11u];
        uint _1424 = chunk_peaks[11u];
        float _1436 = chunk_sums[12u];
        uint _1439 = chunk_peaks[12u];
        float _1451 = chunk_sums[13u];
        uint _1454 = chunk_peaks[13u];
        float _1466 = chunk_sums[14u];
        uint _1469 = chunk_peaks[14u];
        float _1481 = chunk_sums[15u];
        uint _1484 = chunk_peaks[15u];
        uint _1485 = max(max(max(max(max(max(max(max(max(max(max(max(max(max(max(_536, _550), _1289), _1304), _1319), _1334), _1349), _1364), _1379), _1394), _1409), _1424), _1439), _1454), _1469), _1484);
        if ((gl_LocalInvocationID.x == 0u) && (_1485 >= 2139095040u))
        {
            _280.result[0] = 1u;
        }
        float _284 = as_type<float>(_1485);
        bool _288 = _284 > 999999986991104.0;
        bool _304;
        if (!_288)
        {
            _304 = ((p.eps == 0.0) && (_284 < 1.0000000036274937255387218471014e-15)) && (_284 > 0.0);
        }
        else
        {
            _304 = _288;
        }
        float _738;
        if (_304)
        {
            threadgroup_barrier(mem_flags::mem_threadgroup);
            uint _730;
            float _731;
            uint _732;
            _732 = 0u;
            _731 = 0.0;
            _730 = gl_LocalInvocationID.x;
            uint _1264;
            float _1275;
            bool _580;
            for (;;)
            {
                _580 = _730 < _417;
                if (_580)
                {
                    float _763;
                    if (_580)
                    {
                        _763 = _73.x[_237 + _730];
                    }
                    else
                    {
                        _763 = 0.0;
                    }
                    float _967;
                    if ((_730 + THREADS) < _417)
                    {
                        _967 = _73.x[(_237 + _730) + THREADS];
                    }
                    else
                    {
                        _967 = 0.0;
                    }
                    uint _976 = 2u * THREADS;
                    float _989;
                    if ((_730 + _976) < _417)
                    {
                        _989 = _73.x[(_237 + _730) + _976];
                    }
                    else
                    {
                        _989 = 0.0;
                    }
                    uint _998 = 3u * THREADS;
                    float _1011;
                    if ((_730 + _998) < _417)
                    {
                        _1011 = _73.x[(_237 + _730) + _998];
                    }
                    else
                    {
                        _1011 = 0.0;
                    }
                    uint _1020 = 4u * THREADS;
                    float _1033;
                    if ((_730 + _1020) < _417)
                    {
                        _1033 = _73.x[(_237 + _730) + _1020];
                    }
                    else
                    {
                        _1033 = 0.0;
                    }
                    uint _1042 = 5u * THREADS;
                    float _1055;
                    if ((_730 + _1042) < _417)
                    {
                        _1055 = _73.x[(_237 + _730) + _1042];
                    }
                    else
                    {
                        _1055 = 0.0;
                    }
                    uint _1064 = 6u * THREADS;
                    float _1077;
                    if ((_730 + _1064) < _417)
                    {
                        _1077 = _73.x[(_237 + _730) + _1064];
                    }
                    else
                    {
                        _1077 = 0.0;
                    }
                    uint _1086 = 7u * THREADS;
                    float _1099;
                    if ((_730 + _1086) < _417)
                    {
                        _1099 = _73.x[(_237 + _730) + _1086];
                    }
                    else
                    {
                        _1099 = 0.0;
                    }
                    bool _625 = _284 == 1.0;
                    float _758;
                    if (_625)
                    {
                        _758 = _763;
                    }
                    else
                    {
                        _758 = _763 / _284;
                    }
                    float _1124;
                    if (_625)
                    {
                        _1124 = _967;
                    }
                    else
                    {
                        _1124 = _967 / _284;
                    }
                    float _1149;
                    if (_625)
                    {
                        _1149 = _989;
                    }
                    else
                    {
                        _1149 = _989 / _284;
                    }
                    float _1174;
                    if (_625)
                    {
                        _1174 = _1011;
                    }
                    else
                    {
                        _1174 = _1011 / _284;
                    }
                    float _1199;
                    if (_625)
                    {
                        _1199 = _1033;
                    }
                    else
                    {
                        _1199 = _1033 / _284;
                    }
                    float _1224;
                    if (_625)
                    {
                        _1224 = _1055;
                    }
                    else
                    {
                        _1224 = _1055 / _284;
                    }
                    float _1249;
                    if (_625)
                    {
                        _1249 = _1077;
                    }
                    else
                    {
                        _1249 = _1077 / _284;
                    }
                    _1264 = max(max(max(max(max(max(max(max(_732, (as_type<uint>(_763) & 2147483647u)), (as_type<uint>(_967) & 2147483647u)), (as_type<uint>(_989) & 2147483647u)), (as_type<uint>(_1011) & 2147483647u)), (as_type<uint>(_1033) & 2147483647u)), (as_type<uint>(_1055) & 2147483647u)), (as_type<uint>(_1077) & 2147483647u)), (as_type<uint>(_1099) & 2147483647u));
                    float _1274;
                    if (_625)
                    {
                        _1274 = _1099;
                    }
                    else
                    {
                        _1274 = _1099 / _284;
                    }
                    _1275 = fma(_1274, _1274, fma(_1249, _1249, fma(_1224, _1224, fma(_1199, _1199, fma(_1174, _1174, fma(_1149, _1149, fma(_1124, _1124, fma(_758, _758, _731))))))));
                    _732 = _1264;
                    _731 = _1275;
                    _730 += _128;
                    continue;
                }
                else
                {
                    break;
                }
            }
            sums[gl_LocalInvocationID.x] = _731;
            peaks[gl_LocalInvocationID.x] = _732;
            threadgroup_barrier(mem_flags::mem_threadgroup);
            if (_495)
            {
                float _734;
                uint _735;
                _735 = peaks[gl_LocalInvocationID.x];
                _734 = sums[gl_LocalInvocationID.x];
                for (uint _733 = 16u; _733 < THREADS; )
                {
                    uint _672 = gl_LocalInvocationID.x + _733;
                    _735 = max(_735, peaks[_672]);
                    _734 = spvFAdd(_734, sums[_672]);
                    _733 += 16u;
                    continue;
                }
                chunk_sums[gl_LocalInvocationID.x] = _734;
                chunk_peaks[gl_LocalInvocationID.x] = _735;
            }
            threadgroup_barrier(mem_flags::mem_threadgroup);
            _738 = (((((((((((((spvFAdd(chunk_sums[0], chunk_sums[1u]) + chunk_sums[2u]) + chunk_sums[3u]) + chunk_sums[4u]) + chunk_sums[5u]) + chunk_sums[6u]) + chunk_sums[7u]) + chunk_sums[8u]) + chunk_sums[9u]) + chunk_sums[10u]) + chunk_sums[11u]) + chunk_sums[12u]) + chunk_sums[13u]) + chunk_sums[14u]) + chunk_sums[15u];
        }
        else
        {
            _738 = (((((((((((((spvFAdd(_534, _544) + _1286) + _1301) + _1316) + _1331) + _1346) + _1361) + _1376) + _1391) + _1406) + _1421) + _1436) + _1451) + _1466) + _1481;
        }
        float _1838 = _304 ? _284 : 1.0;
        float _327 = 1.0 / sqrt(spvFAdd(_738 / float(_417), (p.eps / _1838) / _1838));
        for (uint _747 = gl_LocalInvocationID.x; _747 < _417; _747 += THREADS)
        {
            uint _342 = _237 + _747;
            float _749;
            if (_1838 == 1.0)
            {
                _749 = _73.x[_342];
            }
            else
            {
                _749 = _73.x[_342] / _1838;
            }
            _374.y[(_719 * p.y_stride) + _747] = spvFMul(spvFMul(_749, _327), _362.weight[p.weight_at + _747]);
        }
        break;
    } while(false);
}

