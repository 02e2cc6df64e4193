// Written by build_shaders.py from shaders/attend.comp; do not edit. Compile without fast math.
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

template<typename T>
[[clang::optnone]] T spvFSub(T l, T r)
{
    return fma(T(-1), r, l);
}

struct Step
{
    uint step_[1];
};

#ifndef BLOCKFFN_THREADS
#define BLOCKFFN_THREADS 64u
#endif
constant uint THREADS = BLOCKFFN_THREADS;

struct Push
{
    uint heads;
    uint heads_per_kv;
    uint key_vectors;
    uint value_dim;
    uint q_stride;
    uint q_head;
    uint key_stride;
    uint key_head;
    uint value_stride;
    uint value_head;
    uint max_parts;
    float scale;
};

constant uint per_key = (THREADS / 16u);

struct Query
{
    float4 query[1];
};

struct Keys
{
    float4 keys[1];
};

struct Values
{
    float values[1];
};

struct Parts
{
    float parts[1];
};

#ifndef BLOCKFFN_THREADS
#define BLOCKFFN_THREADS 64u
#endif
constant uint _626 = BLOCKFFN_THREADS;
constant uint3 gl_WorkGroupSize [[maybe_unused]] = uint3(_626, 1u, 1u);

kernel void attend(constant Push& p [[buffer(0)]], const device Query& _349 [[buffer(2)]], device Parts& _589 [[buffer(3)]], const device Keys& _360 [[buffer(4)]], const device Step& _105 [[buffer(5)]], const device Values& _545 [[buffer(6)]], uint3 gl_LocalInvocationID [[thread_position_in_threadgroup]], uint3 gl_WorkGroupID [[threadgroup_position_in_grid]])
{
    threadgroup uint chunk_rows[64];
    threadgroup uint rows[16];
    threadgroup float lanes[THREADS];
    threadgroup float scores[16];
    do
    {
        uint _110 = _105.step_[1];
        uint _113 = _105.step_[13];
        uint _114 = _110 - _113;
        if (gl_WorkGroupID.x >= _105.step_[0])
        {
            break;
        }
        uint _125 = 80u + gl_WorkGroupID.x;
        uint _127 = _105.step_[_125];
        uint _131 = 144u + gl_WorkGroupID.x;
        uint _133 = _105.step_[_131];
        int _137 = int(popcount(_127));
        uint _143 = (_114 + uint(_137)) + uint(int(popcount(_133)));
        uint _146 = gl_WorkGroupID.z * 256u;
        if (_146 >= _143)
        {
            break;
        }
        for (uint _754 = gl_LocalInvocationID.x; _754 < 64u; _754 += THREADS)
        {
            uint _166 = 1u << (_754 % 32u);
            bool _168 = _754 < 32u;
            if (((_168 ? _127 : _133) & _166) == 0u)
            {
                continue;
            }
            int _809;
            if (_168)
            {
                _809 = int(popcount(_127 & (_166 - 1u)));
            }
            else
            {
                _809 = _137 + int(popcount(_133 & (_166 - 1u)));
            }
            chunk_rows[_809] = _754;
        }
        uint _216 = gl_WorkGroupID.y / p.heads_per_kv;
        uint _228 = (gl_WorkGroupID.x * p.q_stride) + (gl_WorkGroupID.y * p.q_head);
        uint _233 = gl_LocalInvocationID.x % per_key;
        float acc[16];
        for (uint _755 = 0u; _755 < 16u; )
        {
            acc[_755] = 0.0;
            _755++;
            continue;
        }
        uint _258 = min(_143, ((gl_WorkGroupID.z + 1u) * 256u));
        float _757;
        float _758;
        _758 = 0.0;
        _757 = as_type<float>(0xff800000u /* -inf */);
        float _775;
        float _802;
        for (uint _756 = _146; _756 < _258; _758 = _802, _757 = _775, _756 += 16u)
        {
            uint _273 = _258 - _756;
            uint _274 = min(16u, _273);
            threadgroup_barrier(mem_flags::mem_threadgroup);
            bool _278 = gl_LocalInvocationID.x < _274;
            if (_278)
            {
                uint _287 = _756 + gl_LocalInvocationID.x;
                uint _761;
                if (_287 < _114)
                {
                    _761 = _287;
                }
                else
                {
                    _761 = _114 + chunk_rows[_287 - _114];
                }
                rows[gl_LocalInvocationID.x] = _761;
            }
            threadgroup_barrier(mem_flags::mem_threadgroup);
            uint _311 = gl_LocalInvocationID.x / per_key;
            float _763;
            if (_311 < _274)
            {
                uint _330 = (rows[_311] * p.key_stride) + (_216 * p.key_head);
                float _764;
                _764 = 0.0;
                for (uint _762 = _233; _762 < p.key_vectors; )
                {
                    uint _352 = _228 + _762;
                    uint _363 = _330 + _762;
                    _764 = fma(_349.query[_352].w, _360.keys[_363].w, fma(_349.query[_352].z, _360.keys[_363].z, fma(_349.query[_352].y, _360.keys[_363].y, fma(_349.query[_352].x, _360.keys[_363].x, _764))));
                    _762 += per_key;
                    continue;
                }
                _763 = _764;
            }
            else
            {
                _763 = 0.0;
            }
            lanes[gl_LocalInvocationID.x] = _763;
            threadgroup_barrier(mem_flags::mem_threadgroup);
            if (_278)
            {
                float _766;
                _766 = 0.0;
                for (uint _765 = 0u; _765 < per_key; )
                {
                    _766 = spvFAdd(_766, lanes[(gl_LocalInvocationID.x * per_key) + _765]);
                    _765++;
                    continue;
                }
                scores[gl_LocalInvocationID.x] = spvFMul(_766, p.scale);
            }
            threadgroup_barrier(mem_flags::mem_threadgroup);
            _775 = _757;
            for (uint _773 = 0u; _773 < _274; )
            {
                _775 = fast::max(_775, scores[_773]);
                _773++;
                continue;
            }
            float _455 = spvFSub(_757, _775);
            float _776;
            do
            {
                if (_455 < (-87.0))
                {
                    _776 = 0.0;
                    break;
                }
                float _654 = floor(fma(_455, 1.44269502162933349609375, 0.5));
                float _660 = fma(_654, 0.00021219444170128554105758666992188, fma(_654, -0.693359375, _455));
                _776 = spvFAdd(fma(spvFMul(fma(fma(fma(fma(fma(0.00019875691214110702276229858398438, _660, 0.00139819993637502193450927734375), _660, 0.008333452045917510986328125), _660, 0.0416657961905002593994140625), _660, 0.1666666567325592041015625), _660, 0.5), _660), _660, _660), 1.0) * as_type<float>(uint(int(_654) + 127) << uint(23));
                break;
            } while(false);
            acc[0u] = spvFMul(acc[0u], _776);
            acc[1u] *= _776;
            acc[2u] *= _776;
            acc[3u] *= _776;
            acc[4u] *= _776;
            acc[5u] *= _776;
            acc[6u] *= _776;
            acc[7u] *= _776;
            acc[8u] *= _776;
            acc[9u] *= _776;
            acc[10u] *= _776;
            acc[11u] *= _776;
            acc[12u] *= _776;
            acc[13u] *= _776;
            acc[14u] *= _776;
            acc[15u] *= _776;
            _802 = spvFMul(_758, _776);
            float _497;
            for (uint _787 = 0u; _787 < _274; _802 = _497, _787++)
            {
                float _492 = spvFSub(scores[_787], _775);
                float _800;
                do
                {
                    if (_492 < (-87.0))
                    {
                        _800 = 0.0;
                        break;
                    }
                    float _707 = floor(fma(_492, 1.44269502162933349609375, 0.5));
                    float _713 = fma(_707, 0.00021219444170128554105758666992188, fma(_707, -0.693359375, _492));
                    _800 = spvFAdd(fma(spvFMul(fma(fma(fma(fma(fma(0.00019875691214110702276229858398438, _713, 0.00139819993637502193450927734375), _713, 0.008333452045917510986328125), _713, 0.0416657961905002593994140625), _713, 0.1666666567325592041015625), _713, 0.5), _713), _713, _713), 1.0) * as_type<float>(uint(int(_707) + 127) << uint(23));
                    break;
                } while(false);
                _497 = spvFAdd(_802, _800);
                uint _511 = (rows[_787] * p.value_stride) + (_216 * p.value_head);
                bool _530 = 0u < p.value_dim;
                bool _537;
                if (_530)
                {
                    _537 = gl_LocalInvocationID.x < p.value_dim;
                }
                else
                {
                    _537 = _530;
                }
                if (_537)
                {
                    acc[0u] = fma(_800, _545.values[_511 + gl_LocalInvocationID.x], acc[0u]);
                }
                uint _1282 = THREADS + gl_LocalInvocationID.x;
                bool _1286 = THREADS < p.value_dim;
                bool _1292;
                if (_1286)
                {
                    _1292 = _1282 < p.value_dim;
                }
                else
                {
                    _1292 = _1286;
                }
                if (_1292)
                {
                    acc[1u] = fma(_800, _545.values[_511 + _1282], acc[1u]);
                }
                uint _1309 = 2u * THREADS;
                uint _1310 = _1309 + gl_LocalInvocationID.x;
                bool _1314 = _1309 < p.value_dim;
                bool _1320;
                if (_1314)
                {
                    _1320 = _1310 < p.value_dim;
                }
                else
                {
                    _1320 = _1314;
                }
                if (_1320)
                {
                    acc[2u] = fma(_800, _545.values[_511 + _1310], acc[2u]);
                }
                uint _1337 = 3u * THREADS;
                uint _1338 = _1337 + gl_LocalInvocationID.x;
                bool _1342 = _1337 < p.value_dim;
                bool _1348;
                if (_1342)
                {
                    _1348 = _1338 < p.value_dim;
                }
                else
                {
                    _1348 = _1342;
                }
                if (_1348)
                {
                    acc[3u] = fma(_800, _545.values[_511 + _1338], acc[3u]);
                }
                uint _1365 = 4u * THREADS;
                uint _1366 = _1365 + gl_LocalInvocationID.x;
                bool _1370 = _1365 < p.value_dim;
                bool _1376;
                if (_1370)
                {
                    _1376 = _1366 < p.value_dim;
                }
                else
                {
                    _1376 = _1370;
                }
                if (_1376)
                {
                    acc[4u] = fma(_800, _545.values[_511 + _1366], acc[4u]);
                }
                uint _1393 = 5u * THREADS;
                uint _1394 = _1393 + gl_LocalInvocationID.x;
                bool _1398 = _1393 < p.value_dim;
                bool _1404;
                if (_1398)
                {
                    _1404 = _1394 < p.value_dim;
                }
                else
                {
                    _1404 = _1398;
                }
                if (_1404)
                {
                    acc[5u] = fma(_800, _545.values[_511 + _1394], acc[5u]);
                }
                uint _1421 = 6u * THREADS;
                uint _1422 = _1421 + gl_LocalInvocationID.x;
                bool _1426 = _1421 < p.value_dim;
                bool _1432;
                if (_1426)
                {
                    _1432 = _1422 < p.value_dim;
                }
                else
                {
                    _1432 = _1426;
                }
                if (_1432)
                {
                    acc[6u] = fma(_800, _545.values[_511 + _1422], acc[6u]);
                }
                uint _1449 = 7u * THREADS;
                uint _1450 = _1449 + gl_LocalInvocationID.x;
                bool _1454 = _1449 < p.value_dim;
                bool _1460;
                if (_1454)
                {
                    _1460 = _1450 < p.value_dim;
                }
                else
                {
                    _1460 = _1454;
                }
                if (_1460)
                {
                    acc[7u] = fma(_800, _545.values[_511 + _1450], acc[7u]);
                }
                uint _1477 = 8u * THREADS;
                uint _1478 = _1477 + gl_LocalInvocationID.x;
                bool _1482 = _1477 < p.value_dim;
                bool _1488;
                if (_1482)
                {
                    _1488 = _1478 < p.value_dim;
                }
                else
                {
                    _1488 = _1482;
                }
                if (_1488)
                {
                    acc[8u] = fma(_800, _545.values[_511 + _1478], acc[8u]);
                }
                uint _1505 = 9u * THREADS;
                uint _1506 = _1505 + gl_LocalInvocationID.x;
                bool _1510 = _1505 < p.value_dim;
                bool _1516;
                if (_1510)
                {
                    _1516 = _1506 < p.value_dim;
                }
                else
                {
                    _1516 = _1510;
                }
                if (_1516)
                {
                    acc[9u] = fma(_800, _545.values[_511 + _1506], acc[9u]);
                }
                uint _1533 = 10u * THREADS;
                uint _1534 = _1533 + gl_LocalInvocationID.x;
                bool _1538 = _1533 < p.value_dim;
                bool _1544;
                if (_1538)
                {
                    _1544 = _1534 < p.value_dim;
                }
                else
                {
                    _1544 = _1538;
                }
                if (_1544)
                {
                    acc[10u] = fma(_800, _545.values[_511 + _1534], acc[10u]);
                }
                uint _1561 = 11u * THREADS;
                uint _1562 = _1561 + gl_LocalInvocationID.x;
                bool _1566 = _1561 < p.value_dim;
                bool _1572;
                if (_1566)
                {
                    _1572 = _1562 < p.value_dim;
                }
                else
                {
                    _1572 = _1566;
                }
                if (_1572)
                {
                    acc[11u] = fma(_800, _545.values[_511 + _1562], acc[11u]);
                }
                uint _1589 = 12u * THREADS;
                uint _1590 = _1589 + gl_LocalInvocationID.x;
                bool _1594 = _1589 < p.value_dim;
                bool _1600;
                if (_1594)
                {
                    _1600 = _1590 < p.value_dim;
                }
                else
                {
                    _1600 = _1594;
                }
                if (_1600)
                {
                    acc[12u] = fma(_800, _545.values[_511 + _1590], acc[12u]);
                }
                uint _1617 = 13u * THREADS;
                uint _1618 = _1617 + gl_LocalInvocationID.x;
                bool _1622 = _1617 < p.value_dim;
                bool _1628;
                if (_1622)
                {
                    _1628 = _1618 < p.value_dim;
                }
                else
                {
                    _1628 = _1622;
                }
                if (_1628)
                {
                    acc[13u] = fma(_800, _545.values[_511 + _1618], acc[13u]);
                }
                uint _1645 = 14u * THREADS;
                uint _1646 = _1645 + gl_LocalInvocationID.x;
                bool _1650 = _1645 < p.value_dim;
                bool _1656;
                if (_1650)
                {
                    _1656 = _1646 < p.value_dim;
                }
                else
                {
                    _1656 = _1650;
                }
                if (_1656)
                {
                    acc[14u] = fma(_800, _545.values[_511 + _1646], acc[14u]);
                }
                uint _1673 = 15u * THREADS;
                uint _1674 = _1673 + gl_LocalInvocationID.x;
                bool _1678 = _1673 < p.value_dim;
                bool _1684;
                if (_1678)
                {
                    _1684 = _1674 < p.value_dim;
                }
                else
                {
                    _1684 = _1678;
                }
                if (_1684)
                {
                    acc[15u] = fma(_800, _545.values[_511 + _1674], acc[15u]);
                }
            }
        }
        uint _581 = ((((gl_WorkGroupID.x * p.heads) + gl_WorkGroupID.y) * p.max_parts) + gl_WorkGroupID.z) * (p.value_dim + 2u);
        if (gl_LocalInvocationID.x == 0u)
        {
            _589.parts[_581] = _757;
            _589.parts[_581 + 1u] = _758;
        }
        if (gl_LocalInvocationID.x < p.value_dim)
        {
            _589.parts[(_581 + 2u) + gl_LocalInvocationID.x] = acc[0u];
        }
        uint _832 = THREADS + gl_LocalInvocationID.x;
        if (_832 < p.value_dim)
        {
            _589.parts[(_581 + 2u) + _832] = acc[1u];
        }
        uint _851 = (2u * THREADS) + gl_LocalInvocationID.x;
        if (_851 < p.value_dim)
        {
            _589.parts[(_581 + 2u) + _851] = acc[2u];
        }
        uint _870 = (3u * THREADS) + gl_LocalInvocationID.x;
        if (_870 < p.value_dim)
        {
            _589.parts[(_581 + 2u) + _870] = acc[3u];
        }
        uint _889 = (4u * THREADS) + gl_LocalInvocationID.x;
        if (_889 < p.value_dim)
        {
            _589.parts[(_581 + 2u) + _889] = acc[4u];
        }
        uint _908 = (5u * THREADS) + gl_LocalInvocationID.x;
        if (_908 < p.value_dim)
        {
            _589.parts[(_581 + 2u) + _908] = acc[5u];
        }
        uint _927 = (6u * THREADS) + gl_LocalInvocationID.x;
        if (_927 < p.value_dim)
        {
            _589.parts[(_581 + 2u) + _927] = acc[6u];
        }
        uint _946 = (7u * THREADS) + gl_LocalInvocationID.x;
        if (_946 < p.value_dim)
        {
            _589.parts[(_581 + 2u) + _946] = acc[7u];
        }
        uint _965 = (8u * THREADS) + gl_LocalInvocationID.x;
        if (_965 < p.value_dim)
        {
            _589.parts[(_581 + 2u) + _965] = acc[8u];
        }
        uint _984 = (9u * THREADS) + gl_LocalInvocationID.x;
        if (_984 < p.value_dim)
        {
            _589.parts[(_581 + 2u) + _984] = acc[9u];
        }
        uint _1003 = (10u * THREADS) + gl_LocalInvocationID.x;
        if (_1003 < p.value_dim)
        {
            _589.parts[(_581 + 2u) + _1003] = acc[10u];
        }
        uint _1022 = (11u * THREADS) + gl_LocalInvocationID.x;
        if (_1022 < p.value_dim)
        {
            _589.parts[(_581 + 2u) + _1022] = acc[11u];
        }
        uint _1041 = (12u * THREADS) + gl_LocalInvocationID.x;
        if (_1041 < p.value_dim)
        {
            _589.parts[(_581 + 2u) + _1041] = acc[12u];
        }
        uint _1060 = (13u * THREADS) + gl_LocalInvocationID.x;
        if (_1060 < p.value_dim)
        {
            _589.parts[(_581 + 2u) + _1060] = acc[13u];
        }
        uint _1079 = (14u * THREADS) + gl_LocalInvocationID.x;
        if (_1079 < p.value_dim)
        {
            _589.parts[(_581 + 2u) + _1079] = acc[14u];
        }
        uint _1098 = (15u * THREADS) + gl_LocalInvocationID.x;
        if (_1098 < p.value_dim)
        {
            _589.parts[(_581 + 2u) + _1098] = acc[15u];
        }
        break;
    } while(false);
}

