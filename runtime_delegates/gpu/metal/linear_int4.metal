// Written by build_shaders.py from shaders/linear.comp; do not edit. Compile without fast math.
#pragma clang diagnostic ignored "-Wmissing-prototypes"

#include <metal_stdlib>
#include <simd/simd.h>

using namespace metal;

template<typename T, uint A>
inline void spvArrayCopyFromStackToStack1(thread T (&dst)[A], thread const T (&src)[A])
{
    for (uint i = 0; i < A; i++)
    {
        dst[i] = src[i];
    }
}

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

struct Weights
{
    uint4 weights[1];
};

#ifndef BLOCKFFN_TOKENS
#define BLOCKFFN_TOKENS 1u
#endif
constant uint TOKENS = BLOCKFFN_TOKENS;
constant uint _408 = (TOKENS * 2u);
#ifndef BLOCKFFN_THREADS
#define BLOCKFFN_THREADS 64u
#endif
constant uint THREADS = BLOCKFFN_THREADS;
constant uint _411 = (THREADS * TOKENS);
constant uint _412 = (_411 * 2u);
constant uint _428 = (THREADS / 2u);
constant uint _449 = (TOKENS * 2u);

struct Step
{
    uint step_[1];
};

struct Push
{
    uint first;
    uint tile_vectors;
    uint tiles_per_group;
    uint row_offset;
    uint rows;
    uint cols;
    uint x_stride;
    uint x_group;
    uint y_stride;
    uint y_group;
    uint bias_at;
    uint flags;
    float scale;
};

constant uint _566 = (8u * TOKENS);

struct Y
{
    float y[1];
};

constant uint _653 = (TOKENS * 2u);
constant bool _686 = (TOKENS >= 4u);
constant bool _688 = (_686 && true);
constant int _689 = _688 ? 2 : 4;
constant uint _690 = (uint(_689) + 0u);
constant bool _737 = (TOKENS >= 4u);
constant bool _738 = (_737 && true);
constant int _739 = _738 ? 2 : 4;
constant uint _740 = (uint(_739) + 0u);

struct X
{
    float4 x[1];
};

constant bool _873 = (TOKENS >= 4u);
constant bool _874 = (_873 && true);
constant int _875 = _874 ? 2 : 4;
constant uint _876 = (uint(_875) + 0u);
constant uint _877 = (_876 * THREADS);

struct Bias
{
    float bias0[1];
};

#ifndef BLOCKFFN_THREADS
#define BLOCKFFN_THREADS 64u
#endif
constant uint _938 = BLOCKFFN_THREADS;
constant uint3 gl_WorkGroupSize [[maybe_unused]] = uint3(_938, 1u, 1u);

kernel void linear_int4(constant Push& p [[buffer(0)]], const device Weights& _105 [[buffer(1)]], const device X& _813 [[buffer(2)]], device Y& _591 [[buffer(3)]], const device Bias& _916 [[buffer(4)]], const device Step& _507 [[buffer(5)]], uint3 gl_LocalInvocationID [[thread_position_in_threadgroup]], uint3 gl_WorkGroupID [[threadgroup_position_in_grid]])
{
    threadgroup float partial[_412];
    do
    {
        uint _502 = gl_WorkGroupID.z * TOKENS;
        uint _509 = _507.step_[0];
        uint _1429;
        if ((p.flags & 2u) != 0u)
        {
            _1429 = _507.step_[2];
        }
        else
        {
            _1429 = 0u;
        }
        if (_502 >= _509)
        {
            break;
        }
        uint _544 = (p.row_offset + (gl_WorkGroupID.x * 8u)) + (gl_LocalInvocationID.x % 8u);
        uint _549 = _502 + (gl_LocalInvocationID.x / 8u);
        uint _562 = ((_549 * p.y_stride) + (gl_WorkGroupID.y * p.y_group)) + _544;
        bool _567 = gl_LocalInvocationID.x < _566;
        bool _574;
        if (_567)
        {
            _574 = _544 < p.rows;
        }
        else
        {
            _574 = _567;
        }
        bool _578 = _574 && (_549 < _509);
        if ((_502 + TOKENS) <= _1429)
        {
            if (_578)
            {
                _591.y[_562] = 0.0;
            }
            break;
        }
        uint _610 = p.first + (((gl_WorkGroupID.y * p.tiles_per_group) + gl_WorkGroupID.x) * p.tile_vectors);
        uint x_at[8];
        for (uint _1430 = 0u; _1430 < TOKENS; )
        {
            x_at[_1430] = (min((_502 + _1430), (_509 - 1u)) * p.x_stride) + (gl_WorkGroupID.y * p.x_group);
            _1430++;
            continue;
        }
        uint _645 = _509 - _502;
        float acc[16];
        for (uint _1431 = 0u; _1431 < _653; )
        {
            acc[_1431] = 0.0;
            _1431++;
            continue;
        }
        uint _949 = ((p.cols + 31u) / 32u) * 8u;
        uint _1432;
        _1432 = gl_LocalInvocationID.x;
        uint4 raw[4][1];
        bool _676;
        for (;;)
        {
            _676 = _1432 < _949;
            if (_676)
            {
                bool _691 = 0u < _690;
                bool _700;
                if (_691)
                {
                    _700 = _676;
                }
                else
                {
                    _700 = _691;
                }
                if (_700)
                {
                    uint4 _1419[1] = { _105.weights[_610 + _1432] };
                    spvArrayCopyFromStackToStack1(raw[0u], _1419);
                }
                bool _1505 = 1u < _690;
                bool _1511;
                if (_1505)
                {
                    _1511 = (_1432 + THREADS) < _949;
                }
                else
                {
                    _1511 = _1505;
                }
                if (_1511)
                {
                    uint4 _1518[1] = { _105.weights[_610 + (_1432 + THREADS)] };
                    spvArrayCopyFromStackToStack1(raw[1u], _1518);
                }
                bool _1528 = 2u < _690;
                bool _1534;
                if (_1528)
                {
                    _1534 = (_1432 + (2u * THREADS)) < _949;
                }
                else
                {
                    _1534 = _1528;
                }
                if (_1534)
                {
                    uint4 _1541[1] = { _105.weights[_610 + (_1432 + (2u * THREADS))] };
                    spvArrayCopyFromStackToStack1(raw[2u], _1541);
                }
                bool _1551 = 3u < _690;
                bool _1557;
                if (_1551)
                {
                    _1557 = (_1432 + (3u * THREADS)) < _949;
                }
                else
                {
                    _1557 = _1551;
                }
                if (_1557)
                {
                    uint4 _1564[1] = { _105.weights[_610 + (_1432 + (3u * THREADS))] };
                    spvArrayCopyFromStackToStack1(raw[3u], _1564);
                }
                for (uint _1440 = 0u; _1440 < 4u; _1440++)
                {
                    uint _735 = _1432 + (_1440 * THREADS);
                    if ((_1440 >= _740) || (_735 >= _949))
                    {
                        continue;
                    }
                    float _1039 = as_type<float>((raw[_1440][0].x & 15u) | 1258291200u) - 8388616.0;
                    float _1047 = as_type<float>(((raw[_1440][0].x >> uint(8)) & 15u) | 1258291200u) - 8388616.0;
                    float _1055 = as_type<float>(((raw[_1440][0].x >> uint(16)) & 15u) | 1258291200u) - 8388616.0;
                    float _1063 = as_type<float>(((raw[_1440][0].x >> uint(24)) & 15u) | 1258291200u) - 8388616.0;
                    uint _995 = raw[_1440][0].x >> uint(4);
                    float _1097 = as_type<float>((_995 & 15u) | 1258291200u) - 8388616.0;
                    float _1105 = as_type<float>(((_995 >> uint(8)) & 15u) | 1258291200u) - 8388616.0;
                    float _1113 = as_type<float>(((_995 >> uint(16)) & 15u) | 1258291200u) - 8388616.0;
                    float _1121 = as_type<float>(((_995 >> uint(24)) & 15u) | 1258291200u) - 8388616.0;
                    float _1583 = as_type<float>((raw[_1440][0].y & 15u) | 1258291200u) - 8388616.0;
                    float _1588 = as_type<float>(((raw[_1440][0].y >> uint(8)) & 15u) | 1258291200u) - 8388616.0;
                    float _1593 = as_type<float>(((raw[_1440][0].y >> uint(16)) & 15u) | 1258291200u) - 8388616.0;
                    float _1598 = as_type<float>(((raw[_1440][0].y >> uint(24)) & 15u) | 1258291200u) - 8388616.0;
                    uint _1608 = raw[_1440][0].y >> uint(4);
                    float _1612 = as_type<float>((_1608 & 15u) | 1258291200u) - 8388616.0;
                    float _1617 = as_type<float>(((_1608 >> uint(8)) & 15u) | 1258291200u) - 8388616.0;
                    float _1622 = as_type<float>(((_1608 >> uint(16)) & 15u) | 1258291200u) - 8388616.0;
                    float _1627 = as_type<float>(((_1608 >> uint(24)) & 15u) | 1258291200u) - 8388616.0;
                    float _1650 = as_type<float>((raw[_1440][0].z & 15u) | 1258291200u) - 8388616.0;
                    float _1655 = as_type<float>(((raw[_1440][0].z >> uint(8)) & 15u) | 1258291200u) - 8388616.0;
                    float _1660 = as_type<float>(((raw[_1440][0].z >> uint(16)) & 15u) | 1258291200u) - 8388616.0;
                    float _1665 = as_type<float>(((raw[_1440][0].z >> uint(24)) & 15u) | 1258291200u) - 8388616.0;
                    uint _1675 = raw[_1440][0].z >> uint(4);
                    float _1679 = as_type<float>((_1675 & 15u) | 1258291200u) - 8388616.0;
                    float _1684 = as_type<float>(((_1675 >> uint(8)) & 15u) | 1258291200u) - 8388616.0;
                    float _1689 = as_type<float>(((_1675 >> uint(16)) & 15u) | 1258291200u) - 8388616.0;
                    float _1694 = as_type<float>(((_1675 >> uint(24)) & 15u) | 1258291200u) - 8388616.0;
                    float _1712 = as_type<float>((raw[_1440][0].w & 15u) | 1258291200u) - 8388616.0;
                    float _1717 = as_type<float>(((raw[_1440][0].w >> uint(8)) & 15u) | 1258291200u) - 8388616.0;
                    float _1722 = as_type<float>(((raw[_1440][0].w >> uint(16)) & 15u) | 1258291200u) - 8388616.0;
                    float _1727 = as_type<float>(((raw[_1440][0].w >> uint(24)) & 15u) | 1258291200u) - 8388616.0;
                    uint _1737 = raw[_1440][0].w >> uint(4);
                    float _1741 = as_type<float>((_1737 & 15u) | 1258291200u) - 8388616.0;
                    float _1746 = as_type<float>(((_1737 >> uint(8)) & 15u) | 1258291200u) - 8388616.0;
                    float _1751 = as_type<float>(((_1737 >> uint(16)) & 15u) | 1258291200u) - 8388616.0;
                    float _1756 = as_type<float>(((_1737 >> uint(24)) & 15u) | 1258291200u) - 8388616.0;
                    uint _1130 = _735 >> uint(3);
                    uint _1131 = (_610 + _949) + _1130;
                    uint _1133 = _735 & 3u;
                    uint _1137 = ((device uint*)&_105.weights[_1131])[_1133] & 65535u;
                    uint _1152 = _1137 & 32767u;
                    uint _1154 = _1152 << uint(13);
                    float _1169 = (_1152 < 1024u) ? (as_type<float>(947912704u | _1154) - 6.103515625e-05) : as_type<float>(_1154 + ((_1152 < 31744u) ? 939524096u : 1879048192u));
                    float _1444;
                    if ((_1137 & 32768u) != 0u)
                    {
                        _1444 = -_1169;
                    }
                    else
                    {
                        _1444 = _1169;
                    }
                    uint _1141 = ((device uint*)&_105.weights[_1131])[_1133] >> uint(16);
                    uint _1188 = _1141 & 32767u;
                    uint _1190 = _1188 << uint(13);
                    float _1205 = (_1188 < 1024u) ? (as_type<float>(947912704u | _1190) - 6.103515625e-05) : as_type<float>(_1190 + ((_1188 < 31744u) ? 939524096u : 1879048192u));
                    float _1445;
                    if ((_1141 & 32768u) != 0u)
                    {
                        _1445 = -_1205;
                    }
                    else
                    {
                        _1445 = _1205;
                    }
                    for (uint _1446 = 0u; _1446 < TOKENS; _1446 += 4u)
                    {
                        if ((_1446 != 0u) && (_1446 >= _645))
                        {
                            continue;
                        }
                        for (uint _1447 = _1446; _1447 < (_1446 + 4u); _1447++)
                        {
                            if (_1447 >= TOKENS)
                            {
                                continue;
                            }
                            uint _1225 = (_1130 * 8u) + (((_735 >> uint(2)) & 1u) * 2u);
                            uint _822 = x_at[_1447] + _1225;
                            uint _1782 = x_at[_1447] + (_1225 + 1u);
                            uint _1806 = x_at[_1447] + (_1225 + 4u);
                            uint _1830 = x_at[_1447] + (_1225 + 5u);
                            uint _853 = _1447 * 2u;
                            acc[_853] = fma(_1444, fma(_1627, _813.x[_1830].w, fma(_1622, _813.x[_1830].z, fma(_1617, _813.x[_1830].y, fma(_1612, _813.x[_1830].x, fma(_1121, _813.x[_1806].w, fma(_1113, _813.x[_1806].z, fma(_1105, _813.x[_1806].y, fma(_1097, _813.x[_1806].x, fma(_1598, _813.x[_1782].w, fma(_1593, _813.x[_1782].z, fma(_1588, _813.x[_1782].y, fma(_1583, _813.x[_1782].x, fma(_1063, _813.x[_822].w, fma(_1055, _813.x[_822].z, fma(_1047, _813.x[_822].y, spvFMul(_1039, _813.x[_822].x)))))))))))))))), acc[_853]);
                            uint _2053 = _853 + 1u;
                            acc[_2053] = fma(_1445, fma(_1756, _813.x[_1830].w, fma(_1751, _813.x[_1830].z, fma(_1746, _813.x[_1830].y, fma(_1741, _813.x[_1830].x, fma(_1694, _813.x[_1806].w, fma(_1689, _813.x[_1806].z, fma(_1684, _813.x[_1806].y, fma(_1679, _813.x[_1806].x, fma(_1727, _813.x[_1782].w, fma(_1722, _813.x[_1782].z, fma(_1717, _813.x[_1782].y, fma(_1712, _813.x[_1782].x, fma(_1665, _813.x[_822].w, fma(_1660, _813.x[_822].z, fma(_1655, _813.x[_822].y, _1650 * _813.x[_822].x))))))))))))))), acc[_2053]);
                        }
                    }
                }
                _1432 += _877;
                continue;
            }
            else
            {
                break;
            }
        }
        float param[16];
        spvArrayCopyFromStackToStack1(param, acc);
        for (uint _1433 = 0u; _1433 < _408; )
        {
            partial[(_1433 * THREADS) + gl_LocalInvocationID.x] = param[_1433];
            _1433++;
            continue;
        }
        uint _1434;
        _1434 = _428;
        for (; _1434 >= 4u; _1434 /= 2u)
        {
            threadgroup_barrier(mem_flags::mem_threadgroup);
            if (gl_LocalInvocationID.x < _1434)
            {
                for (uint _1436 = 0u; _1436 < _449; )
                {
                    uint _1375 = (_1436 * THREADS) + gl_LocalInvocationID.x;
                    partial[_1375] = spvFAdd(partial[_1375], partial[_1375 + _1434]);
                    _1436++;
                    continue;
                }
            }
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        if (!_578)
        {
            break;
        }
        uint _892 = gl_LocalInvocationID.x % 8u;
        float _906 = spvFMul(partial[((((gl_LocalInvocationID.x / 8u) * 2u) + (_892 % 2u)) * THREADS) + (_892 / 2u)], p.scale);
        float _1435;
        if ((p.flags & 1u) != 0u)
        {
            _1435 = spvFAdd(_906, _916.bias0[(p.bias_at + (gl_WorkGroupID.y * p.rows)) + _544]);
        }
        else
        {
            _1435 = _906;
        }
        _591.y[_562] = (_549 < _1429) ? 0.0 : _1435;
        break;
    } while(false);
}

